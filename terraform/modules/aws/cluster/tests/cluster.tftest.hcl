mock_provider "helm" {}

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0-eksbuild.1" }
  }
  mock_data "aws_ec2_instance_type" {
    defaults = {
      gpus                       = [{ count = 1, manufacturer = "NVIDIA", memory_size = 24576, name = "L4" }]
      default_vcpus              = 8
      memory_size                = 32768
      instance_storage_supported = true
      total_instance_storage     = 450
      supported_architectures    = ["x86_64"]
    }
  }
}

variables {
  name               = "thaw"
  kubernetes_version = "1.35"
  subnet_ids         = ["subnet-a", "subnet-b", "subnet-c"]
  api_cidrs          = ["203.0.113.7/32"]
  monthly_budget     = { usd = 100, emails = ["ops@example.com"] }
}

run "the_autoscaler_knows_a_node_that_is_not_there_yet" {
  command = plan

  assert {
    condition     = aws_autoscaling_group_tag.storage["gpu-spot"].tag[0].value == "375G"
    error_message = "The autoscaler knows how much room a node that is not there yet has."
  }
}

run "an_api_server_that_the_internet_does_not_see" {
  command = plan

  variables {
    api_cidrs = []
  }

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Without api_cidrs there is no public endpoint."
  }
}

run "an_api_server_for_everybody" {
  command         = plan
  expect_failures = [var.api_cidrs]

  variables {
    api_cidrs = ["0.0.0.0/0"]
  }
}

run "an_instance_that_a_worker_does_not_fit" {
  command         = plan
  expect_failures = [aws_eks_node_group.gpu]

  override_data {
    target = data.aws_ec2_instance_type.gpu
    values = {
      gpus                       = [{ count = 1, manufacturer = "NVIDIA", memory_size = 24576, name = "L4" }]
      default_vcpus              = 4
      memory_size                = 16384
      instance_storage_supported = true
      total_instance_storage     = 250
      supported_architectures    = ["x86_64"]
    }
  }
}

run "an_instance_with_arm_cpus" {
  command         = plan
  expect_failures = [aws_eks_node_group.gpu]

  override_data {
    target = data.aws_ec2_instance_type.gpu
    values = {
      gpus                       = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "T4g" }]
      default_vcpus              = 8
      memory_size                = 32768
      instance_storage_supported = true
      total_instance_storage     = 450
      supported_architectures    = ["arm64"]
    }
  }
}

run "a_patch_version" {
  command         = plan
  expect_failures = [var.kubernetes_version]

  variables {
    kubernetes_version = "1.35.2"
  }
}
