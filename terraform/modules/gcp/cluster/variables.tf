variable "name" {
  type        = string
  description = "Name of the cluster, and prefix of its nodes' service account."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "project" {
  type        = object({ id = string, number = string })
  description = "The project, by its id and its number."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project.id)) && can(regex("^[0-9]+$", var.project.number))
    error_message = "project has the project's id and its number: { id = \"my-project\", number = \"123456789012\" }."
  }
}

variable "location" {
  type        = string
  description = "Of the control plane: a zone (europe-west4-a), of which a billing account has one free, or a region (europe-west4), which outlives the loss of a zone."

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+(-[a-z])?$", var.location))
    error_message = "location is a zone such as europe-west4-a, or a region such as europe-west4."
  }
}

variable "node_zones" {
  type        = list(string)
  description = "Zones in which there may be nodes, all of one region: those that have the GPUs."

  validation {
    condition     = length(var.node_zones) > 0 && alltrue([for zone in var.node_zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", zone))])
    error_message = "node_zones names zones, at least one: [\"europe-west4-a\", \"europe-west4-c\"]."
  }
}

variable "network" {
  type = object({
    network       = string
    subnetwork    = string
    pod_range     = string
    service_range = string
  })
  description = "Network and subnetwork, and the names of the subnetwork's ranges for pods and services; the network module's output has it all."
}

variable "api_cidrs" {
  type        = list(string)
  description = "Who reaches the API server from outside the network, such as 203.0.113.7/32; empty for nobody. Where Terraform runs must be among them, or in the network."

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "api_cidrs are IPv4 ranges of /8 or smaller, never the whole internet, nor half of it: 203.0.113.7/32."
  }
}

variable "release_channel" {
  type        = string
  description = "How soon GKE upgrades the cluster by itself."
  default     = "REGULAR"

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "release_channel is RAPID, REGULAR, STABLE or EXTENDED."
  }
}

variable "system_nodes" {
  type = object({
    machine_type = optional(string, "e2-standard-2")
    max          = optional(number, 3)
  })
  description = "Nodes of the operators, one of which is always there."
  default     = {}

  validation {
    condition     = var.system_nodes.max >= 1
    error_message = "system_nodes has a max of 1 or more: the operators must be somewhere."
  }
}

variable "head_nodes" {
  type = object({
    machine_type = optional(string, "e2-standard-4")
    max          = optional(number, 4)
  })
  description = "Nodes of the heads of runs, from 0 to max: 2 CPUs and 8 GiB for each head."
  default     = {}

  validation {
    condition     = var.head_nodes.max >= 1
    error_message = "head_nodes has a max of 1 or more: each run has a head."
  }
}

variable "gpu_pools" {
  type = map(object({
    machine_type = string
    gpu          = string
    gpus         = optional(number, 1)
    spot         = optional(bool, false)
    local_ssds   = optional(number, 0)
    max_nodes    = optional(number, 4)
    disk_gb      = optional(number, 120)
  }))
  description = "Node pools of the workers, from 0 to max_nodes each, one for each type of machine. local_ssds, of 375 GB each, take the caches; the type of machine says how many it may have."
  default = {
    l4      = { machine_type = "g2-standard-8", gpu = "nvidia-l4" }
    l4-spot = { machine_type = "g2-standard-8", gpu = "nvidia-l4", spot = true }
    t4-spot = { machine_type = "n1-standard-8", gpu = "nvidia-tesla-t4", spot = true }
  }

  validation {
    condition     = alltrue([for name, pool in var.gpu_pools : can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", name)) && startswith(pool.gpu, "nvidia-")])
    error_message = "gpu_pools: a pool has a name of 1 to 20 lower-case letters, digits and dashes, no dash at its end, and a gpu such as nvidia-l4."
  }

  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.gpus >= 1 && pool.max_nodes >= 1 && pool.disk_gb >= (pool.local_ssds == 0 ? 115 : 80)])
    error_message = "gpu_pools: gpus and max_nodes are 1 or more, and disk_gb 80 or more, without local_ssds 115: GKE keeps half of a disk of this size, and a worker asks for 50 GiB of the rest."
  }

  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.local_ssds <= 1 || !can(regex("^g2-standard-(4|8|12|16|32)$", pool.machine_type))])
    error_message = "gpu_pools: g2-standard-4, -8, -12, -16 and -32 take one local SSD: for two take g2-standard-24, or n1 machines."
  }

  validation {
    condition     = alltrue([for pool in var.gpu_pools : try(tonumber(regex("[0-9]+$", pool.machine_type)) > 4, true)])
    error_message = "gpu_pools: a worker asks for 4 CPUs and 16 GiB, which a machine of 4 vCPUs does not have left: take the next size."
  }
}

variable "kms_key" {
  type        = string
  description = "An existing key of yours, made before this is planned, that the cluster's secrets are encrypted with, in its region; null for Google's own."
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is a key's whole name: projects/…/locations/…/keyRings/…/cryptoKeys/…"
  }
}

variable "monthly_budget" {
  type = object({
    billing_account = string
    units           = number
  })
  description = "The project's billing account, and how much a month, in its currency: its administrators are told at 80 %, and when more than all of it is to be expected."

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.monthly_budget.billing_account)) && var.monthly_budget.units >= 1
    error_message = "monthly_budget has a billing account such as 0123AB-4567CD-89EF01, and 1 unit or more."
  }
}
