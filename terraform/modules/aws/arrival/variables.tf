variable "name" {
  type        = string
  description = "Prefix of the queues' names."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "bucket" {
  type        = string
  description = "Name of the bucket whose objects arrive. Its notifications are replaced as a whole: it must have no others."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket is the bucket's name alone, without s3:// and without a folder."
  }
}

variable "prefix" {
  type        = string
  description = "Only objects whose keys begin with this make an event; empty for all."
  default     = ""

  validation {
    condition     = !startswith(var.prefix, "/") && !can(regex("[*?]", var.prefix))
    error_message = "prefix is the beginning of keys: no pattern, and no slash at its beginning."
  }
}

variable "visibility_seconds" {
  type        = number
  description = "How long a message stays hidden once it was received, if the watcher does not extend that: what a restart of the watcher costs at most."
  default     = 300

  validation {
    condition     = var.visibility_seconds >= 60 && var.visibility_seconds <= 43200
    error_message = "visibility_seconds is between 60 and 43200: the watcher needs the time of some requests to extend it."
  }
}

variable "max_receives" {
  type        = number
  description = "Times that a message is received before it goes to the dead-letter queue. A restart of the watcher counts as one, for all that it held."
  default     = 20

  validation {
    condition     = var.max_receives >= 5 && var.max_receives <= 1000
    error_message = "max_receives is between 5 and 1000: with fewer, some restarts of the watcher would lose good messages."
  }
}
