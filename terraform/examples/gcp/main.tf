# Budgets are asked for on behalf of a project, which user credentials don't name.
provider "google" {
  project               = var.project
  region                = local.region
  billing_project       = var.project
  user_project_override = true
}

data "google_client_config" "current" {}

# Here alone: in a module that depends on the services below, it would not be read before the first apply, and what has
# the project in its name could not be planned.
data "google_project" "this" {
  project_id = var.project
}

provider "helm" {
  kubernetes = {
    host                   = "https://${module.cluster.endpoint}"
    cluster_ca_certificate = base64decode(module.cluster.certificate_authority)
    token                  = data.google_client_config.current.access_token
  }
}

locals {
  region  = join("-", slice(split("-", var.zones[0]), 0, 2))
  project = { id = var.project, number = data.google_project.this.number }
}

resource "google_project_service" "this" {
  for_each = toset([
    "artifactregistry", "billingbudgets", "cloudresourcemanager", "compute", "container", "containerfilesystem", "iam",
    "iamcredentials", "pubsub", "storage",
  ])
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

module "network" {
  source     = "../../modules/gcp/network"
  name       = var.name
  region     = local.region
  depends_on = [google_project_service.this]
}

module "cluster" {
  source         = "../../modules/gcp/cluster"
  name           = var.name
  project        = local.project
  location       = var.zones[0]
  node_zones     = var.zones
  network        = module.network.network
  api_cidrs      = var.api_cidrs
  monthly_budget = var.monthly_budget
  depends_on     = [google_project_service.this]
}

module "kuberay" {
  source     = "../../modules/kuberay"
  depends_on = [module.cluster]
}

module "storage" {
  source     = "../../modules/gcp/storage"
  name       = var.name
  project    = local.project
  location   = local.region
  depends_on = [google_project_service.this]
}

module "arrival" {
  source     = "../../modules/gcp/arrival"
  name       = var.name
  project    = local.project
  bucket     = module.storage.data_bucket
  prefix     = module.storage.data_prefix
  depends_on = [google_project_service.this]
}

module "identity" {
  source        = "../../modules/gcp/identity"
  name          = var.name
  workload_pool = module.cluster.workload_pool
  data_bucket   = module.storage.data_bucket
  store_bucket  = module.storage.store_bucket
  subscription  = module.arrival.queue
  repository    = module.storage.repository
  node_member   = module.cluster.node_member
}
