mock_provider "google" {}

variables {
  name          = "thaw"
  workload_pool = "my-project.svc.id.goog"
  data_bucket   = "my-project-thaw-data"
  store_bucket  = "my-project-thaw-store"
  subscription  = "projects/my-project/subscriptions/thaw-events"
  repository    = { id = "thaw", location = "europe-west4" }
  node_member   = "serviceAccount:thaw-node@my-project.iam.gserviceaccount.com"
}

run "the_watcher_writes_its_own_part_of_the_store" {
  command = plan

  assert {
    condition     = strcontains(google_storage_bucket_iam_member.watch_writes_store.condition[0].expression, "/my-project-thaw-store/objects/snapshots/")
    error_message = "The watcher writes its own part of the store."
  }
}

run "a_watcher_that_is_a_run" {
  command         = plan
  expect_failures = [google_service_account.this]

  variables {
    watch_service_account = "thaw-run"
  }
}

run "everybody_reads_the_images" {
  command         = plan
  expect_failures = [var.node_member]

  variables {
    node_member = "allUsers"
  }
}
