output "version" {
  description = "Version of KubeRay's chart, and of the operator."
  value       = helm_release.this.version
}
