mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
  }
}

variables {
  name    = "thaw"
  project = { id = "my-project", number = "123456789012" }
  bucket  = "my-project-thaw-data"
}

run "what_can_not_be_used_leaves_the_queue" {
  command = plan

  assert {
    condition     = google_pubsub_subscription.events.dead_letter_policy[0].max_delivery_attempts == 20
    error_message = "What can't be used leaves the queue."
  }
}

run "a_uri_is_no_name" {
  command         = plan
  expect_failures = [var.bucket]

  variables {
    bucket = "gs://my-project-thaw-data"
  }
}

run "longer_than_pubsub_waits" {
  command         = plan
  expect_failures = [var.ack_deadline_seconds]

  variables {
    ack_deadline_seconds = 3600
  }
}
