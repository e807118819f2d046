mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name   = "thaw"
  bucket = "thaw-data-111122223333"
  prefix = "images/"
}

run "events_of_one_folder" {
  command = plan

  assert {
    condition     = aws_s3_bucket_notification.events.queue[0].filter_prefix == "images/"
    error_message = "Only what arrives in the folder makes an event."
  }
  assert {
    condition     = aws_sqs_queue.dead.message_retention_seconds - aws_sqs_queue.events.message_retention_seconds == 604800
    error_message = "A dead letter is as old as its message: a week is left to look at it."
  }
}

run "a_uri_is_no_name" {
  command         = plan
  expect_failures = [var.bucket]

  variables {
    bucket = "s3://thaw-data-111122223333"
  }
}

run "a_message_that_is_lost_after_a_restart" {
  command         = plan
  expect_failures = [var.max_receives]

  variables {
    max_receives = 1
  }
}
