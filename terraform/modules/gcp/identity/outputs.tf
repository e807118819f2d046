output "run_service_account_annotation" {
  description = "What makes the pods of a run this service account: an annotation of their Kubernetes service account."
  value       = { "iam.gke.io/gcp-service-account" = google_service_account.this["run"].email }
}

output "watch_service_account_annotation" {
  description = "What makes the watcher this service account: an annotation of its Kubernetes service account."
  value       = { "iam.gke.io/gcp-service-account" = google_service_account.this["watch"].email }
}
