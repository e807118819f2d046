variable "name" {
  type        = string
  description = "Name of the cluster, and prefix of its roles'."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "kubernetes_version" {
  type        = string
  description = "Version of control plane, nodes and autoscaler, such as 1.35: one that EKS has in standard support. It goes up by one at a time."

  validation {
    condition     = can(regex("^1\\.(3[5-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version is 1.35 or newer, without a patch number: 1.35."
  }
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of at least two zones, with a way to the AWS APIs and to the images of the operators."

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids names two subnets at least: EKS wants two zones, and GPUs are where there are some."
  }
}

variable "api_cidrs" {
  type        = list(string)
  description = "Who reaches the API server from outside the VPC, such as 203.0.113.7/32; empty for nobody. Where Terraform runs must be among them, or in the VPC."

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "api_cidrs are IPv4 ranges of /8 or smaller, never the whole internet, nor half of it: 203.0.113.7/32."
  }
}

variable "system_nodes" {
  type = object({
    instance_types = optional(list(string), ["t3.large"])
    max            = optional(number, 3)
  })
  description = "Nodes of the operators and the watcher, one of which is always there. A t3.medium is enough for operators alone: the watcher may take 4 GiB while it prepares weights."
  default     = {}

  validation {
    condition     = var.system_nodes.max >= 1 && length(var.system_nodes.instance_types) > 0
    error_message = "system_nodes has an instance type, and a max of 1 or more: the operators must be somewhere."
  }
}

variable "head_nodes" {
  type = object({
    instance_types = optional(list(string), ["m7i.xlarge", "m6i.xlarge"])
    max            = optional(number, 4)
  })
  description = "Nodes of the heads of runs, from 0 to max: 2 CPUs and 8 GiB for each head."
  default     = {}

  validation {
    condition     = var.head_nodes.max >= 1 && length(var.head_nodes.instance_types) > 0
    error_message = "head_nodes has an instance type, and a max of 1 or more: each run has a head."
  }
}

variable "gpu_pools" {
  type = map(object({
    instance_types = list(string)
    spot           = optional(bool, false)
    nvme           = optional(bool, false)
    max_nodes      = optional(number, 4)
    disk_gb        = optional(number, 120)
  }))
  description = "Node groups of the workers, from 0 to max_nodes each. nvme puts caches on the instances' own disks; disk_gb is the gp3 volume."
  default = {
    on-demand = { instance_types = ["g6.2xlarge", "g5.2xlarge"], nvme = true }
    spot      = { instance_types = ["g6.2xlarge", "g5.2xlarge"], nvme = true, spot = true }
  }

  validation {
    condition     = alltrue([for name, pool in var.gpu_pools : can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", name)) && length(pool.instance_types) > 0])
    error_message = "gpu_pools: a pool has a name of 1 to 20 lower-case letters, digits and dashes, no dash at its end, and at least one instance type."
  }

  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.max_nodes >= 1 && pool.disk_gb >= 80])
    error_message = "gpu_pools: max_nodes is 1 or more, and disk_gb 80 or more: the image, and the 50 GiB that a worker asks for."
  }
}

variable "log_days" {
  type        = number
  description = "Days for which the control plane's logs are kept."
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 180, 365], var.log_days)
    error_message = "log_days is one of 1, 3, 5, 7, 14, 30, 60, 90, 180 and 365."
  }
}

variable "monthly_budget" {
  type = object({
    usd    = number
    emails = list(string)
  })
  description = "Dollars a month for the whole account, and who is told at 80 % of it, or when more than all of it is to be expected."

  validation {
    condition     = var.monthly_budget.usd > 0 && length(var.monthly_budget.emails) > 0 && alltrue([for email in var.monthly_budget.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "monthly_budget has more than 0 dollars, and at least one e-mail address."
  }
}
