variable "name" {
  type        = string
  description = "Prefix of the names of all that is made."
  default     = "thaw"
}

variable "zones" {
  type        = list(string)
  description = "Three availability zones of one region, which have GPUs of the types in the cluster module and for which you have quota."

  validation {
    condition     = length(distinct([for zone in var.zones : try(regex("^[a-z]+(?:-[a-z]+)+-[0-9]+", zone), zone)])) == 1
    error_message = "zones names availability zones of one region: [\"eu-central-1a\", \"eu-central-1b\", \"eu-central-1c\"]."
  }
}

variable "kubernetes_version" {
  type        = string
  description = "Version of Kubernetes, such as 1.35: one that EKS has in standard support."
}

variable "api_cidrs" {
  type        = list(string)
  description = "Who reaches the cluster's API server: the address from which you run this, such as 203.0.113.7/32."
}

variable "monthly_budget" {
  type = object({
    usd    = number
    emails = list(string)
  })
  description = "Dollars a month for the whole account, and who is told before they are spent."
}
