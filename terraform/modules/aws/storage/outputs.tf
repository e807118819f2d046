output "data_uri" {
  description = "Where the examples are, as the job file names it."
  value       = "s3://${aws_s3_bucket.this["data"].id}/${var.data_prefix}"
}

output "store_uri" {
  description = "Where snapshots, features, runs and models are, as the job file names it."
  value       = "s3://${aws_s3_bucket.this["store"].id}/"
}

output "image_repository" {
  description = "Where the image is pushed to and pulled from, without a tag."
  value       = aws_ecr_repository.this.repository_url
}

output "data_bucket" {
  description = "Name of the bucket of the examples."
  value       = aws_s3_bucket.this["data"].id
}

output "data_prefix" {
  description = "Folder of the data bucket that has the examples."
  value       = var.data_prefix
}

output "data_bucket_arn" {
  description = "ARN of the bucket of the examples."
  value       = aws_s3_bucket.this["data"].arn
}

output "store_bucket_arn" {
  description = "ARN of the bucket of the store."
  value       = aws_s3_bucket.this["store"].arn
}

output "kms_key_arn" {
  description = "ARN of the key that both buckets and the images are encrypted with."
  value       = aws_kms_key.this.arn
}
