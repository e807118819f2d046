output "queue" {
  description = "Name of the subscription that the watcher reads: projects/…/subscriptions/…"
  value       = google_pubsub_subscription.events.id
}

output "dead_letter_queue" {
  description = "Name of the subscription that keeps, for a month, what the watcher could not use."
  value       = google_pubsub_subscription.dead.id
}
