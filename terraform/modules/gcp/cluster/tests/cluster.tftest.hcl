mock_provider "google" {
  mock_data "google_project" {
    defaults = { project_id = "my-project", number = "123456789012" }
  }
}

variables {
  name           = "thaw"
  location       = "europe-west4-a"
  node_zones     = ["europe-west4-a", "europe-west4-b"]
  network        = { network = "thaw", subnetwork = "thaw", pod_range = "pods", service_range = "services" }
  api_cidrs      = ["203.0.113.7/32"]
  monthly_budget = { billing_account = "0123AB-4567CD-89EF01", units = 100 }
}

run "gpus_cost_nothing_while_nobody_trains" {
  command = plan

  assert {
    condition     = alltrue([for pool in google_container_node_pool.gpu : pool.autoscaling[0].total_min_node_count == 0 && pool.initial_node_count == 0])
    error_message = "Each GPU pool begins at 0, and goes back to it."
  }
  assert {
    condition     = contains([for taint in google_container_node_pool.gpu["l4-spot"].node_config[0].taint : taint.key], "thaw/spot")
    error_message = "Spot nodes have the taint of k8s/components/spot."
  }
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
