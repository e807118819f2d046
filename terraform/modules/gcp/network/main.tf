locals {
  pairs = [[var.node_cidr, var.pod_cidr], [var.node_cidr, var.service_cidr], [var.pod_cidr, var.service_cidr]]

  # Two ranges overlap where they are the same as far as the shorter of their prefixes goes.
  overlaps = [
    for pair in local.pairs : join(" and ", pair) if length(distinct([
      for cidr in pair : cidrhost("${split("/", cidr)[0]}/${min([for each in pair : tonumber(split("/", each)[1])]...)}", 0)
    ])) == 1
  ]
}

resource "google_compute_network" "this" {
  #checkov:skip=CKV2_GCP_18:GKE makes the firewall rules that its nodes need; nothing else lets anybody in.
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "this" {
  #checkov:skip=CKV_GCP_26:Flow logs bill every gigabyte that training reads; turn them on where an audit asks for them.
  #checkov:skip=CKV_GCP_76:The network has no IPv6.
  name          = var.name
  region        = var.region
  network       = google_compute_network.this.id
  ip_cidr_range = var.node_cidr

  # Cloud Storage, Pub/Sub and Artifact Registry are reached past the NAT, and free.
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = var.pod_cidr
  }

  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = var.service_cidr
  }

  lifecycle {
    precondition {
      condition     = length(local.overlaps) == 0
      error_message = "node_cidr, pod_cidr and service_cidr are three ranges apart from each other: ${join(", ", local.overlaps)} overlap."
    }
  }
}

# The way out: images of the operators, and published weights.

resource "google_compute_router" "this" {
  name    = var.name
  region  = var.region
  network = google_compute_network.this.id
}

resource "google_compute_router_nat" "this" {
  name                               = var.name
  region                             = var.region
  router                             = google_compute_router.this.name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.this.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }
}
