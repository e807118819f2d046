mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
}

variables {
  name  = "thaw"
  zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "one_way_out_and_a_free_one_to_s3" {
  command = plan

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.private) == 3
    error_message = "One NAT gateway serves the three zones."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && length(aws_vpc_endpoint.interface) == 0
    error_message = "S3 has a gateway endpoint, and nothing bills by the hour."
  }
  assert {
    condition     = length(distinct([for subnet in aws_subnet.private : subnet.cidr_block])) == 3
    error_message = "Each zone has addresses of its own."
  }
}

run "a_network_without_the_internet" {
  command = plan

  variables {
    nat_gateways        = 0
    interface_endpoints = ["autoscaling", "ec2", "ecr.api", "ecr.dkr", "eks", "sqs", "sts"]
  }

  assert {
    condition     = length(aws_route.private) == 0 && length(aws_subnet.public) == 0
    error_message = "There is no route to the internet."
  }
}

run "two_zones_are_too_few" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["eu-central-1a", "eu-central-1b"]
  }
}

run "zones_by_their_ids" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["euc1-az1", "euc1-az2", "euc1-az3"]
  }
}

run "a_range_that_is_too_small" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.0.0.0/24"
  }
}

run "no_way_to_the_apis" {
  command         = plan
  expect_failures = [aws_vpc.this]

  variables {
    nat_gateways = 0
  }
}
