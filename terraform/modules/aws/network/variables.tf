variable "name" {
  type        = string
  description = "Prefix of the names of all that is made."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "zones" {
  type        = list(string)
  description = "Three availability zones, those with GPUs first: names such as eu-central-1a."

  validation {
    condition     = length(distinct(var.zones)) == 3 && length(var.zones) == 3
    error_message = "zones names three different availability zones: spot capacity of GPUs comes and goes by zone."
  }

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]+(-[a-z]+)+-[0-9]+[a-z]$", zone))])
    error_message = "zones are names such as eu-central-1a: no ids such as euc1-az1, and no local zones."
  }
}

variable "cidr" {
  type        = string
  description = "Addresses of the VPC. Each pod takes one."
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr is an IPv4 range from /16 to /20, for example 10.0.0.0/16."
  }
}

variable "nat_gateways" {
  type        = number
  description = "NAT gateways: 1 is the cheapest, 3 outlive the loss of a zone, 0 is a network without the internet (see the README)."
  default     = 1

  validation {
    condition     = contains([0, 1, 2, 3], var.nat_gateways)
    error_message = "nat_gateways is 0, 1, 2 or 3."
  }
}

variable "interface_endpoints" {
  type        = set(string)
  description = "AWS services that are reached by interface endpoints, such as ecr.api; each one bills by the hour and zone. S3 has a gateway endpoint always."
  default     = []

  validation {
    condition     = !contains(var.interface_endpoints, "s3")
    error_message = "interface_endpoints must not have s3: its gateway endpoint is free."
  }
}
