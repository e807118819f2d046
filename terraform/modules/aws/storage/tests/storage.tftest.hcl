mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name = "thaw"
}

run "two_buckets_with_the_names_of_their_owner" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this["data"].bucket == "thaw-data-111122223333" && aws_s3_bucket.this["store"].bucket == "thaw-store-111122223333"
    error_message = "The buckets have the account's number in their names."
  }
}

run "a_folder_without_its_slash" {
  command         = plan
  expect_failures = [var.data_prefix]

  variables {
    data_prefix = "images"
  }
}

run "features_that_a_run_would_lose" {
  command         = plan
  expect_failures = [var.feature_days]

  variables {
    feature_days = 1
  }
}
