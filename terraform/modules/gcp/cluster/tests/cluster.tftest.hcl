mock_provider "google" {}

variables {
  name           = "thaw"
  project        = { id = "my-project", number = "123456789012" }
  location       = "europe-west4-a"
  node_zones     = ["europe-west4-a", "europe-west4-b"]
  network        = { network = "thaw", subnetwork = "thaw", pod_range = "pods", service_range = "services" }
  api_cidrs      = ["203.0.113.7/32"]
  monthly_budget = { billing_account = "0123AB-4567CD-89EF01", units = 100 }
}

run "a_cluster_with_the_default_pools" {
  command = plan
}

run "a_zone_of_another_region" {
  command         = plan
  expect_failures = [google_container_cluster.this]

  variables {
    node_zones = ["europe-west4-a", "europe-west1-b"]
  }
}

run "a_control_plane_without_nodes_beside_it" {
  command         = plan
  expect_failures = [google_container_cluster.this]

  variables {
    location = "europe-west4-c"
  }
}

run "a_machine_that_a_worker_does_not_fit" {
  command         = plan
  expect_failures = [var.gpu_pools]

  variables {
    gpu_pools = { small = { machine_type = "g2-standard-4", gpu = "nvidia-l4" } }
  }
}

run "a_disk_that_a_worker_does_not_fit" {
  command         = plan
  expect_failures = [var.gpu_pools]

  variables {
    gpu_pools = { l4 = { machine_type = "g2-standard-8", gpu = "nvidia-l4", disk_gb = 100 } }
  }
}

run "more_local_ssds_than_the_machine_takes" {
  command         = plan
  expect_failures = [var.gpu_pools]

  variables {
    gpu_pools = { l4 = { machine_type = "g2-standard-8", gpu = "nvidia-l4", local_ssds = 2 } }
  }
}

run "an_api_server_for_half_of_the_internet" {
  command         = plan
  expect_failures = [var.api_cidrs]

  variables {
    api_cidrs = ["0.0.0.0/1"]
  }
}
