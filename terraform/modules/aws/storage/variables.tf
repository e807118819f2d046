variable "name" {
  type        = string
  description = "Name of the image repository, and prefix of the buckets' names, which also have the account's number."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
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

variable "noncurrent_days" {
  type        = number
  description = "Days for which what was overwritten or deleted can be brought back; old checkpoints are most of it."
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days is a whole number of 1 or more."
  }
}
