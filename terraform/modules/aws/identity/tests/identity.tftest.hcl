mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name              = "thaw"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
  data_bucket_arn   = "arn:aws:s3:::thaw-data-111122223333"
  store_bucket_arn  = "arn:aws:s3:::thaw-store-111122223333"
  kms_key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/abc"
  queue_arn         = "arn:aws:sqs:eu-central-1:111122223333:thaw-events"
}

run "the_watcher_has_a_role_of_its_own" {
  command = plan

  assert {
    condition     = aws_iam_role.this["watch"].name == "thaw-watch"
    error_message = "The watcher has a role of its own."
  }
}

run "a_watcher_that_is_a_run" {
  command         = plan
  expect_failures = [aws_iam_role.this]

  variables {
    watch_service_account = "thaw-run"
  }
}

run "examples_and_store_in_one_bucket" {
  command         = plan
  expect_failures = [aws_iam_role.this]

  variables {
    store_bucket_arn = "arn:aws:s3:::thaw-data-111122223333"
  }
}

run "any_namespace" {
  command         = plan
  expect_failures = [var.namespace]

  variables {
    namespace = "*"
  }
}
