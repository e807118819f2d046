provider "aws" {
  region = local.region

  default_tags {
    tags = { project = var.name }
  }
}

provider "helm" {
  kubernetes = {
    host                   = module.cluster.endpoint
    cluster_ca_certificate = base64decode(module.cluster.certificate_authority)
    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = "aws"
      args        = ["eks", "get-token", "--cluster-name", var.name, "--region", local.region]
    }
  }
}

locals {
  region = regex("^[a-z]+(?:-[a-z]+)+-[0-9]+", var.zones[0])
}

module "network" {
  source = "../../modules/aws/network"
  name   = var.name
  zones  = var.zones
}

module "cluster" {
  source             = "../../modules/aws/cluster"
  name               = var.name
  kubernetes_version = var.kubernetes_version
  subnet_ids         = module.network.private_subnet_ids
  api_cidrs          = var.api_cidrs
  monthly_budget     = var.monthly_budget
}

module "kuberay" {
  source     = "../../modules/kuberay"
  depends_on = [module.cluster]
}

module "storage" {
  source = "../../modules/aws/storage"
  name   = var.name
}

module "arrival" {
  source = "../../modules/aws/arrival"
  name   = var.name
  bucket = module.storage.data_bucket
  prefix = module.storage.data_prefix
}

module "identity" {
  source            = "../../modules/aws/identity"
  name              = var.name
  oidc_provider_arn = module.cluster.oidc_provider_arn
  data_bucket_arn   = module.storage.data_bucket_arn
  store_bucket_arn  = module.storage.store_bucket_arn
  kms_key_arn       = module.storage.kms_key_arn
  queue_arn         = module.arrival.queue_arn
}
