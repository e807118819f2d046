output "data_uri" {
  description = "Where the examples are, as the job file names it."
  value       = "gs://${google_storage_bucket.data.name}/${var.data_prefix}"
}

output "store_uri" {
  description = "Where snapshots, features, runs and models are, as the job file names it."
  value       = "gs://${google_storage_bucket.store.name}/"
}

output "image_repository" {
  description = "Where the image is pushed to and pulled from, without a tag."
  value       = "${google_artifact_registry_repository.this.registry_uri}/thaw"
}

output "data_bucket" {
  description = "Name of the bucket of the examples."
  value       = google_storage_bucket.data.name
}

output "data_prefix" {
  description = "Folder of the data bucket that has the examples."
  value       = var.data_prefix
}

output "store_bucket" {
  description = "Name of the bucket of the store."
  value       = google_storage_bucket.store.name
}

output "repository" {
  description = "The image repository's id and location, for the nodes' right to read it."
  value = {
    id       = google_artifact_registry_repository.this.repository_id
    location = google_artifact_registry_repository.this.location
  }
}
