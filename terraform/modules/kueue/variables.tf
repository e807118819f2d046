variable "timeout_seconds" {
  type        = number
  description = "How long to wait for Kueue: a node for it may have to start first."
  default     = 600

  validation {
    condition     = var.timeout_seconds >= 60
    error_message = "timeout_seconds is 60 or more: an image must be pulled in it."
  }
}
