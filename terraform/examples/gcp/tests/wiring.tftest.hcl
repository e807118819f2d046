mock_provider "helm" {}

mock_provider "google" {
  override_during = plan

  mock_data "google_project" {
    defaults = { project_id = "my-project", number = "123456789012" }
  }
  mock_data "google_client_config" {
    defaults = { access_token = "token" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "any@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:any@my-project.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_container_cluster" {
    defaults = { endpoint = "10.0.0.2" }
  }
  mock_resource "google_pubsub_subscription" {
    defaults = { id = "projects/my-project/subscriptions/thaw-events" }
  }
  mock_resource "google_artifact_registry_repository" {
    defaults = { registry_uri = "europe-west4-docker.pkg.dev/my-project/thaw" }
  }
}

variables {
  project        = "my-project"
  zones          = ["europe-west4-a", "europe-west4-b"]
  api_cidrs      = ["203.0.113.7/32"]
  monthly_budget = { billing_account = "0123AB-4567CD-89EF01", units = 100 }
}

run "the_outputs_are_what_the_overlay_needs" {
  command = plan

  assert {
    condition     = output.data_uri == "gs://my-project-thaw-data/images/" && output.store_uri == "gs://my-project-thaw-store/"
    error_message = "The URIs are those of the two buckets."
  }
  assert {
    condition     = output.queue == "projects/my-project/subscriptions/thaw-events"
    error_message = "The queue is named by its subscription."
  }
  assert {
    condition     = keys(output.run_service_account_annotation) == ["iam.gke.io/gcp-service-account"] && keys(output.watch_service_account_annotation) == ["iam.gke.io/gcp-service-account"]
    error_message = "Pods get their identities by GKE's annotation."
  }
  assert {
    condition     = output.image_repository == "europe-west4-docker.pkg.dev/my-project/thaw/thaw"
    error_message = "The repository has no tag."
  }
}

run "zones_of_two_regions" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["europe-west4-a", "europe-west1-b"]
  }
}
