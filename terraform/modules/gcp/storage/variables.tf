variable "name" {
  type        = string
  description = "Name of the image repository, and part of the buckets' names, which begin with the project's."

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
  description = "Region of buckets and images: that of the nodes, so that reading costs nothing."

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.location))
    error_message = "location is a region, not a zone and not a multi-region: europe-west4."
  }
}

variable "data_prefix" {
  type        = string
  description = "Folder of the data bucket that has the examples; empty for the whole bucket."
  default     = "images/"

  validation {
    condition     = can(regex("^([A-Za-z0-9][A-Za-z0-9._-]*/)*$", var.data_prefix))
    error_message = "data_prefix is empty, or a folder that ends with a slash and does not begin with one: images/."
  }
}

variable "feature_days" {
  type        = number
  description = "Days after which stored features are deleted; a run that misses them computes them again."
  default     = 90

  validation {
    condition     = var.feature_days >= 7 && floor(var.feature_days) == var.feature_days
    error_message = "feature_days is a whole number of 7 or more: features must outlive the run that reads them."
  }
}

variable "soft_delete_days" {
  type        = number
  description = "Days for which what was overwritten or deleted can be brought back; old checkpoints are most of it."
  default     = 7

  validation {
    condition     = var.soft_delete_days >= 7 && var.soft_delete_days <= 90
    error_message = "soft_delete_days is between 7 and 90, which are Cloud Storage's limits."
  }
}

variable "kms_key" {
  type        = string
  description = "An existing key of yours, made before this is planned, that both buckets are encrypted with, in their region; null for Google's own."
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is a key's whole name: projects/…/locations/…/keyRings/…/cryptoKeys/…"
  }
}
