mock_provider "helm" {}

mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
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
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn                   = "arn:aws:eks:eu-central-1:111122223333:cluster/thaw"
      endpoint              = "https://abc.eks.amazonaws.com"
      certificate_authority = [{ data = "YWJj" }]
      identity              = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC" }] }]
    }
  }
  mock_resource "aws_eks_node_group" {
    defaults = { resources = [{ autoscaling_groups = [{ name = "eks-group" }], remote_access_security_group_id = "" }] }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/any" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/abc" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = {
      arn = "arn:aws:sqs:eu-central-1:111122223333:thaw-events"
      url = "https://sqs.eu-central-1.amazonaws.com/111122223333/thaw-events"
    }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { repository_url = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/thaw" }
  }
}

# Both have ids that the mocks can't tell apart, and must not be the same bucket.
override_resource {
  target = module.storage.aws_s3_bucket.this["data"]
  values = { id = "thaw-data-111122223333", arn = "arn:aws:s3:::thaw-data-111122223333" }
}

override_resource {
  target = module.storage.aws_s3_bucket.this["store"]
  values = { id = "thaw-store-111122223333", arn = "arn:aws:s3:::thaw-store-111122223333" }
}

variables {
  zones              = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  kubernetes_version = "1.35"
  api_cidrs          = ["203.0.113.7/32"]
  monthly_budget     = { usd = 100, emails = ["ops@example.com"] }
}

run "the_outputs_are_what_the_overlay_needs" {
  command = plan

  assert {
    condition     = output.data_uri == "s3://thaw-data-111122223333/images/" && output.store_uri == "s3://thaw-store-111122223333/"
    error_message = "The URIs are those of the two buckets."
  }
  assert {
    condition     = output.queue == "https://sqs.eu-central-1.amazonaws.com/111122223333/thaw-events"
    error_message = "The queue is named by its URL."
  }
  assert {
    condition     = keys(output.run_service_account_annotation) == ["eks.amazonaws.com/role-arn"] && keys(output.watch_service_account_annotation) == ["eks.amazonaws.com/role-arn"]
    error_message = "Pods get their roles by EKS's annotation."
  }
  assert {
    condition     = output.image_repository == "111122223333.dkr.ecr.eu-central-1.amazonaws.com/thaw"
    error_message = "The repository has no tag."
  }
}

run "zones_of_two_regions" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["eu-central-1a", "eu-central-1b", "eu-west-1a"]
  }
}
