output "data_uri" {
  description = "Where the examples are."
  value       = module.storage.data_uri
}

output "store_uri" {
  description = "Where snapshots, features, runs and models are."
  value       = module.storage.store_uri
}

output "queue" {
  description = "What the watcher reads."
  value       = module.arrival.queue
}

output "run_service_account_annotation" {
  description = "Annotation of the service account of the pods of a run."
  value       = module.identity.run_service_account_annotation
}

output "watch_service_account_annotation" {
  description = "Annotation of the watcher's service account."
  value       = module.identity.watch_service_account_annotation
}

output "image_repository" {
  description = "Where the image is pushed to, without a tag."
  value       = module.storage.image_repository
}

output "connect" {
  description = "The command that lets kubectl and thaw reach the cluster."
  value       = "gcloud container clusters get-credentials ${module.cluster.name} --location ${var.zones[0]} --project ${var.project}"
}
