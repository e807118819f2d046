output "network" {
  description = "The network and what the cluster takes of it: ids of network and subnetwork, names of the ranges of pods and services."
  value = {
    network       = google_compute_network.this.id
    subnetwork    = google_compute_subnetwork.this.id
    pod_range     = "pods"
    service_range = "services"
  }
  depends_on = [google_compute_router_nat.this]
}
