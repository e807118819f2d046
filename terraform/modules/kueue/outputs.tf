output "version" {
  description = "Version of Kueue."
  value       = helm_release.this.version
}
