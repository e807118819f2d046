output "name" {
  description = "Name of the cluster, once it can run jobs."
  value       = aws_eks_cluster.this.name
  depends_on  = [aws_eks_addon.coredns, helm_release.autoscaler, helm_release.device_plugin]
}

output "endpoint" {
  description = "URL of the API server, for Terraform's Helm provider."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Certificate of the API server's authority, in base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "oidc_provider_arn" {
  description = "ARN of the provider by which IAM knows the cluster's service accounts."
  value       = aws_iam_openid_connect_provider.this.arn
}
