mock_provider "google" {}

variables {
  name   = "thaw"
  region = "europe-west4"
}

run "storage_is_reached_past_the_nat" {
  command = plan

  assert {
    condition     = google_compute_subnetwork.this.private_ip_google_access
    error_message = "Google's APIs are reached from private addresses."
  }
}

run "a_zone_is_no_region" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "europe-west4-a"
  }
}

run "a_range_within_another" {
  command         = plan
  expect_failures = [google_compute_subnetwork.this]

  variables {
    node_cidr = "10.64.4.0/22"
  }
}

run "the_same_range_twice" {
  command         = plan
  expect_failures = [google_compute_subnetwork.this]

  variables {
    node_cidr    = "10.96.0.0/20"
    service_cidr = "10.96.0.0/20"
  }
}
