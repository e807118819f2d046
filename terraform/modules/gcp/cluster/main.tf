resource "google_container_cluster" "this" {
  #checkov:skip=CKV_GCP_65:Google groups for RBAC need a Workspace domain, which not everybody has.
  #checkov:skip=CKV_GCP_66:Which images are trusted is the user's policy; binary authorization without one lets all in.
  #checkov:skip=CKV_GCP_61:Flow logs bill every gigabyte that training reads.
  #checkov:skip=CKV_GCP_12:Dataplane V2 enforces NetworkPolicies; this asks for the add-on that it replaces.
  name                     = var.name
  location                 = var.location
  node_locations           = local.other_zones
  network                  = var.network.network
  subnetwork               = var.network.subnetwork
  datapath_provider        = "ADVANCED_DATAPATH"
  networking_mode          = "VPC_NATIVE"
  remove_default_node_pool = true
  initial_node_count       = 1

  # It holds nothing that the store does not have.
  deletion_protection = false

  release_channel {
    channel = var.release_channel
  }

  # An upgrade waits an hour for a head, and no longer: at weekends fewer are at work.
  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T00:00:00Z"
      end_time   = "2026-01-03T12:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = var.network.pod_range
    services_secondary_range_name = var.network.service_range
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = length(var.api_cidrs) == 0
  }

  # With no block inside, the nodes' network alone reaches the API server.
  master_authorized_networks_config {
    gcp_public_cidrs_access_enabled = false

    dynamic "cidr_blocks" {
      for_each = var.api_cidrs

      content {
        cidr_block = cidr_blocks.value
      }
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  workload_identity_config {
    workload_pool = "${var.project.id}.svc.id.goog"
  }

  dynamic "database_encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      state    = "ENCRYPTED"
      key_name = database_encryption.value
    }
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "APISERVER", "CONTROLLER_MANAGER", "SCHEDULER"]
  }

  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]

    managed_prometheus {
      enabled = false
    }
  }

  cost_management_config {
    enabled = true
  }

  node_pool_defaults {
    node_config_defaults {
      insecure_kubelet_readonly_port_enabled = "FALSE"

      gcfs_config {
        enabled = true
      }
    }
  }

  # Of the default pool, for the minute in which it is there: a project's default service account may be gone.
  node_config {
    service_account = google_service_account.node.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  resource_labels = { app = var.name }

  lifecycle {
    ignore_changes = [node_config]

    precondition {
      condition     = alltrue([for zone in var.node_zones : zone == var.location || startswith(zone, "${local.region}-")])
      error_message = "node_zones has a zone that is not in location's region."
    }
    precondition {
      condition     = local.region == var.location || contains(var.node_zones, var.location)
      error_message = "location is a zone, and node_zones does not have it: the nodes that are always there are in it."
    }
  }

  depends_on = [google_project_iam_member.node, google_kms_crypto_key_iam_member.secrets]
}

locals {
  region      = join("-", slice(split("-", var.location), 0, 2))
  other_zones = [for zone in var.node_zones : zone if zone != var.location]
}

resource "google_kms_crypto_key_iam_member" "secrets" {
  for_each      = toset(var.kms_key == null ? [] : [var.kms_key])
  crypto_key_id = each.key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${var.project.number}@container-engine-robot.iam.gserviceaccount.com"
}

resource "google_service_account" "node" {
  account_id   = "${var.name}-node"
  display_name = "${var.name} node"
  description  = "The nodes of ${var.name}; pods can't reach it."
}

# The second is for image streaming.
resource "google_project_iam_member" "node" {
  for_each = toset(["roles/container.defaultNodeServiceAccount", "roles/serviceusage.serviceUsageConsumer"])
  project  = var.project.id
  role     = each.key
  member   = google_service_account.node.member
}

# Who has Billing Account Administrator or User is told.
resource "google_billing_budget" "this" {
  billing_account = var.monthly_budget.billing_account
  display_name    = var.name

  budget_filter {
    projects = ["projects/${var.project.number}"]
  }

  amount {
    specified_amount {
      units = tostring(floor(var.monthly_budget.units))
    }
  }

  threshold_rules {
    threshold_percent = 0.8
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }
}
