output "run_service_account_annotation" {
  description = "What makes the pods of a run this role: an annotation of their Kubernetes service account."
  value       = { "eks.amazonaws.com/role-arn" = aws_iam_role.this["run"].arn }
}

output "watch_service_account_annotation" {
  description = "What makes the watcher this role: an annotation of its Kubernetes service account."
  value       = { "eks.amazonaws.com/role-arn" = aws_iam_role.this["watch"].arn }
}
