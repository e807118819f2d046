variable "name" {
  type        = string
  description = "Prefix of the names of topics and subscriptions."

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

variable "bucket" {
  type        = string
  description = "Name of the bucket whose objects arrive."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.bucket))
    error_message = "bucket is the bucket's name alone, without gs:// and without a folder."
  }
}

variable "prefix" {
  type        = string
  description = "Only objects whose names begin with this make an event; empty for all."
  default     = ""

  validation {
    condition     = !startswith(var.prefix, "/") && !can(regex("[*?]", var.prefix))
    error_message = "prefix is the beginning of names: no pattern, and no slash at its beginning."
  }
}

variable "ack_deadline_seconds" {
  type        = number
  description = "How long a message stays hidden once it was received, if the watcher does not extend that: what a restart of the watcher costs at most."
  default     = 300

  validation {
    condition     = var.ack_deadline_seconds >= 60 && var.ack_deadline_seconds <= 600
    error_message = "ack_deadline_seconds is between 60 and 600: the watcher needs the time of some requests to extend it."
  }
}

variable "max_deliveries" {
  type        = number
  description = "Times that a message is delivered before it goes to the dead-letter topic. A restart of the watcher counts as one, for all that it held."
  default     = 20

  validation {
    condition     = var.max_deliveries >= 5 && var.max_deliveries <= 100
    error_message = "max_deliveries is between 5 and 100, which are Pub/Sub's limits."
  }
}
