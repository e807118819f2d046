output "name" {
  description = "Name of the cluster, once it can run jobs."
  value       = google_container_cluster.this.name
  depends_on  = [google_container_node_pool.system, google_container_node_pool.head, google_container_node_pool.gpu]
}

output "endpoint" {
  description = "Address of the API server, for Terraform's Helm provider."
  value       = google_container_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Certificate of the API server's authority, in base64."
  value       = google_container_cluster.this.master_auth[0].cluster_ca_certificate
}

output "node_member" {
  description = "Service account of the nodes, as IAM names it."
  value       = google_service_account.node.member
}

output "workload_pool" {
  description = "The pool of workload identities, which the project has from its first cluster on."
  value       = google_container_cluster.this.workload_identity_config[0].workload_pool
}
