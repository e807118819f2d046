variable "name" {
  type        = string
  description = "Name of the network, and of all that is made in it."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "region" {
  type        = string
  description = "Region of the subnetwork, one with GPUs: europe-west4."

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region, not a zone: europe-west4."
  }
}

variable "node_cidr" {
  type        = string
  description = "Addresses of the nodes."
  default     = "10.0.0.0/22"

  validation {
    condition     = can(cidrnetmask(var.node_cidr))
    error_message = "node_cidr is an IPv4 range, for example 10.0.0.0/22."
  }
}

variable "pod_cidr" {
  type        = string
  description = "Addresses of the pods: 256 for each node."
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.pod_cidr)) && try(tonumber(split("/", var.pod_cidr)[1]) <= 20, false)
    error_message = "pod_cidr is an IPv4 range of /20 or larger, for example 10.64.0.0/16: each node takes a /24 of it."
  }
}

variable "service_cidr" {
  type        = string
  description = "Addresses of the services."
  default     = "10.96.0.0/20"

  validation {
    condition     = can(cidrnetmask(var.service_cidr))
    error_message = "service_cidr is an IPv4 range, for example 10.96.0.0/20."
  }
}
