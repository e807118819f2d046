variable "name" {
  type        = string
  description = "Prefix of the names of all that is made."
  default     = "thaw"
}

variable "project" {
  type        = string
  description = "Id of the project, which has a billing account."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is the project's id, not its number or its name."
  }
}

variable "zones" {
  type        = list(string)
  description = "Zones of one region that have GPUs of the types in the cluster module. The control plane is in the first."

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", zone))])
    error_message = "zones are zones, not regions: europe-west4-a."
  }

  validation {
    condition     = length(distinct([for zone in var.zones : try(regex("^[a-z]+-[a-z]+[0-9]+", zone), zone)])) == 1
    error_message = "zones names zones of one region: [\"europe-west4-a\", \"europe-west4-b\"]."
  }
}

variable "api_cidrs" {
  type        = list(string)
  description = "Who reaches the cluster's API server: the address from which you run this, such as 203.0.113.7/32."
}

variable "monthly_budget" {
  type = object({
    billing_account = string
    units           = number
  })
  description = "The project's billing account, and how much a month, in its currency, before its administrators are told."
}
