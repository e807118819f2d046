data "google_storage_project_service_account" "current" {}

locals {
  pubsub_agent = "serviceAccount:service-${var.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "events" {
  #checkov:skip=CKV_GCP_83:A message names an object, and has none of its content; Google's own keys encrypt it.
  name = "${var.name}-events"
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83:A message names an object, and has none of its content; Google's own keys encrypt it.
  name = "${var.name}-events-dead"
}

resource "google_storage_notification" "events" {
  bucket             = var.bucket
  topic              = google_pubsub_topic.events.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE", "OBJECT_DELETE"]
  object_name_prefix = var.prefix == "" ? null : var.prefix
  depends_on         = [google_pubsub_topic_iam_member.storage]
}

resource "google_pubsub_subscription" "events" {
  name                       = "${var.name}-events"
  topic                      = google_pubsub_topic.events.id
  ack_deadline_seconds       = var.ack_deadline_seconds
  message_retention_duration = "604800s"

  # It stays, however long nobody reads it.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead.id
    max_delivery_attempts = var.max_deliveries
  }

  depends_on = [google_pubsub_topic_iam_member.dead]
}

# A topic forgets what nobody is subscribed to.
resource "google_pubsub_subscription" "dead" {
  name                       = "${var.name}-events-dead"
  topic                      = google_pubsub_topic.dead.id
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "storage" {
  topic  = google_pubsub_topic.events.id
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.current.member
}

# Pub/Sub itself moves a message to the dead-letter topic: it takes it from here, and publishes it there.
resource "google_pubsub_topic_iam_member" "dead" {
  topic  = google_pubsub_topic.dead.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead" {
  subscription = google_pubsub_subscription.events.id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
