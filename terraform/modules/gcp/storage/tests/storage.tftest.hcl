mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
  }
}

variables {
  name     = "thaw"
  project  = { id = "my-project", number = "123456789012" }
  location = "europe-west4"
}

run "two_buckets_with_the_names_of_their_owner" {
  command = plan

  assert {
    condition     = output.data_uri == "gs://my-project-thaw-data/images/" && output.store_uri == "gs://my-project-thaw-store/"
    error_message = "The buckets have the project's id in their names."
  }
  assert {
    condition     = length(google_kms_crypto_key_iam_member.storage) == 0
    error_message = "Without a key of one's own, Google's are used."
  }
}

run "a_key_of_ones_own" {
  command = plan

  variables {
    kms_key = "projects/my-project/locations/europe-west4/keyRings/thaw/cryptoKeys/storage"
  }

  assert {
    condition     = google_storage_bucket.store.encryption[0].default_kms_key_name == var.kms_key && length(google_kms_crypto_key_iam_member.storage) == 1
    error_message = "Cloud Storage may use the key, and does."
  }
}

run "a_multi_region" {
  command         = plan
  expect_failures = [var.location]

  variables {
    location = "EU"
  }
}

run "no_time_to_change_ones_mind" {
  command         = plan
  expect_failures = [var.soft_delete_days]

  variables {
    soft_delete_days = 0
  }
}
