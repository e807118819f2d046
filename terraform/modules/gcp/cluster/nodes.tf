# system: what is always there. head: heads of runs, one machine for each, from 0. gpu: workers, from 0.

resource "google_container_node_pool" "system" {
  name               = "system"
  cluster            = google_container_cluster.this.id
  node_locations     = local.one_zone
  initial_node_count = 1

  autoscaling {
    total_min_node_count = 1
    total_max_node_count = var.system_nodes.max
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.system_nodes.machine_type
    disk_size_gb    = 50
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.node.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    metadata = { disable-legacy-endpoints = "true" }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}

# On demand only: a head that is lost takes its attempt along. The label is what the overlay's heads select; the taint
# keeps all others away, of which one of kube-system would keep the node.
resource "google_container_node_pool" "head" {
  name               = "head"
  cluster            = google_container_cluster.this.id
  node_locations     = var.node_zones
  initial_node_count = 0

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.head_nodes.max
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.head_nodes.machine_type
    disk_size_gb    = 60
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.node.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    labels   = { "thaw/pool" = "head" }
    metadata = { disable-legacy-endpoints = "true" }

    taint {
      key    = "thaw/head"
      value  = "true"
      effect = "NO_SCHEDULE"
    }

    gcfs_config {
      enabled = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}

resource "google_container_node_pool" "gpu" {
  for_each           = var.gpu_pools
  name               = "gpu-${each.key}"
  cluster            = google_container_cluster.this.id
  node_locations     = var.node_zones
  initial_node_count = 0

  # ANY: wherever there is a GPU, instead of as many in each zone.
  autoscaling {
    total_min_node_count = 0
    total_max_node_count = each.value.max_nodes
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = each.value.machine_type
    spot            = each.value.spot
    disk_size_gb    = each.value.disk_gb
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.node.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    labels = merge(
      each.value.spot ? { "thaw/spot" = "true" } : {},
      each.value.local_ssds > 0 ? { "thaw/nvme" = "true" } : {},
    )

    metadata = { disable-legacy-endpoints = "true" }

    guest_accelerator {
      type  = each.value.gpu
      count = each.value.gpus

      gpu_driver_installation_config {
        gpu_driver_version = "LATEST"
      }
    }

    taint {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }

    dynamic "taint" {
      for_each = each.value.spot ? ["true"] : []

      content {
        key    = "thaw/spot"
        value  = taint.value
        effect = "NO_SCHEDULE"
      }
    }

    # Caches are emptyDirs, which lie on the local disks then.
    dynamic "ephemeral_storage_local_ssd_config" {
      for_each = each.value.local_ssds > 0 ? [each.value.local_ssds] : []

      content {
        local_ssd_count = ephemeral_storage_local_ssd_config.value
      }
    }

    # A worker starts while the rest of its image is still on the way.
    gcfs_config {
      enabled = true
    }

    gvnic {
      enabled = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}

locals {
  one_zone = [local.region == var.location ? var.node_zones[0] : var.location]
}
