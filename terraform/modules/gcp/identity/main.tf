locals {
  accounts = { run = var.run_service_account, watch = var.watch_service_account }

  # Role ids have no dashes.
  role_prefix = replace(var.name, "-", "_")

  # Conditions know no wildcards: `a*b` is what begins with a and ends with b.
  objects = "projects/_/buckets/${var.store_bucket}/objects/"
  watch_writes = join(" || ", [
    for ends in [for pattern in var.watch_writes : split("*", pattern)] :
    "(resource.name.startsWith(\"${local.objects}${ends[0]}\") && resource.name.endsWith(\"${ends[1]}\"))"
  ])
}

resource "google_service_account" "this" {
  for_each     = local.accounts
  account_id   = "${var.name}-${each.key}"
  display_name = "${var.name} ${each.key}"
  description  = "Pods of the service account ${each.value} in the namespace ${var.namespace}."

  lifecycle {
    precondition {
      condition     = var.run_service_account != var.watch_service_account
      error_message = "run_service_account and watch_service_account are the same: the watcher would get what a run may do."
    }
    precondition {
      condition     = var.data_bucket != var.store_bucket
      error_message = "data_bucket and store_bucket are the same: a run could overwrite its examples, and what it writes would arrive as data."
    }
  }
}

# Workload Identity Federation: one Kubernetes service account may be each of them, and no key exists.
resource "google_service_account_iam_member" "workload_identity" {
  for_each           = local.accounts
  service_account_id = google_service_account.this[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.workload_pool}[${var.namespace}/${each.value}]"
}

# The predefined roles of Cloud Storage and Pub/Sub all have more than this. docs/cloud.md names the line of code that
# needs each permission, and a test compares the two.

resource "google_project_iam_custom_role" "read" {
  role_id     = "${local.role_prefix}_read"
  title       = "${var.name}: read objects"
  permissions = ["storage.objects.get", "storage.objects.list"]
}

resource "google_project_iam_custom_role" "write" {
  role_id = "${local.role_prefix}_write"
  title   = "${var.name}: write objects"
  # Overwriting an object is deleting the one before.
  permissions = ["storage.objects.create", "storage.objects.delete"]
}

resource "google_project_iam_custom_role" "consume" {
  role_id     = "${local.role_prefix}_consume"
  title       = "${var.name}: take events"
  permissions = ["pubsub.subscriptions.consume"]
}

resource "google_storage_bucket_iam_member" "run_reads_data" {
  bucket = var.data_bucket
  role   = google_project_iam_custom_role.read.name
  member = google_service_account.this["run"].member
}

resource "google_storage_bucket_iam_member" "run_reads_store" {
  bucket = var.store_bucket
  role   = google_project_iam_custom_role.read.name
  member = google_service_account.this["run"].member
}

resource "google_storage_bucket_iam_member" "run_writes_store" {
  bucket = var.store_bucket
  role   = google_project_iam_custom_role.write.name
  member = google_service_account.this["run"].member
}

resource "google_storage_bucket_iam_member" "watch_reads_data" {
  bucket = var.data_bucket
  role   = google_project_iam_custom_role.read.name
  member = google_service_account.this["watch"].member
}

resource "google_storage_bucket_iam_member" "watch_reads_store" {
  bucket = var.store_bucket
  role   = google_project_iam_custom_role.read.name
  member = google_service_account.this["watch"].member
}

resource "google_storage_bucket_iam_member" "watch_writes_store" {
  bucket = var.store_bucket
  role   = google_project_iam_custom_role.write.name
  member = google_service_account.this["watch"].member

  condition {
    title      = "what it writes"
    expression = local.watch_writes
  }
}

resource "google_pubsub_subscription_iam_member" "watch_takes_events" {
  subscription = var.subscription
  role         = google_project_iam_custom_role.consume.name
  member       = google_service_account.this["watch"].member
}

# Nodes pull the image, not pods.
resource "google_artifact_registry_repository_iam_member" "nodes" {
  repository = var.repository.id
  location   = var.repository.location
  role       = "roles/artifactregistry.reader"
  member     = var.node_member
}
