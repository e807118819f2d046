variable "name" {
  type        = string
  description = "Prefix of the roles' names."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "oidc_provider_arn" {
  type        = string
  description = "The cluster's OIDC provider in IAM, by which pods prove which service account they have."

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn is the ARN of an IAM OIDC provider: arn:aws:iam::111122223333:oidc-provider/…"
  }
}

variable "data_bucket_arn" {
  type        = string
  description = "Bucket of the examples, which are read only."

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[^/*]+$", var.data_bucket_arn))
    error_message = "data_bucket_arn is the ARN of one bucket, without a folder: arn:aws:s3:::name."
  }
}

variable "store_bucket_arn" {
  type        = string
  description = "Bucket of the store, which belongs to Thaw alone."

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[^/*]+$", var.store_bucket_arn))
    error_message = "store_bucket_arn is the ARN of one bucket, without a folder: arn:aws:s3:::name."
  }
}

variable "kms_key_arn" {
  type        = string
  description = "Key that both buckets are encrypted with."

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[^*]+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key, not of an alias: arn:aws:kms:eu-central-1:111122223333:key/…"
  }
}

variable "queue_arn" {
  type        = string
  description = "Queue of the arrival events."

  validation {
    condition     = can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[^*]+$", var.queue_arn))
    error_message = "queue_arn is the ARN of an SQS queue: arn:aws:sqs:eu-central-1:111122223333:name."
  }
}

variable "namespace" {
  type        = string
  description = "Namespace of both service accounts, as in k8s/base."
  default     = "thaw"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace is the name of a Kubernetes namespace, without wildcards."
  }
}

variable "run_service_account" {
  type        = string
  description = "Kubernetes service account of the pods of a run, as in k8s/base."
  default     = "thaw-run"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.run_service_account))
    error_message = "run_service_account is the name of a Kubernetes service account, without wildcards."
  }
}

variable "watch_service_account" {
  type        = string
  description = "Kubernetes service account of the watcher."
  default     = "thaw-watch"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", var.watch_service_account))
    error_message = "watch_service_account is the name of a Kubernetes service account, without wildcards."
  }
}

variable "watch_writes" {
  type        = list(string)
  description = "What the watcher writes in the store, each with one asterisk for any characters: the snapshots that it takes, weights that a run is named after, and why it did not train."
  default     = ["snapshots/*", "weights/*", "runs/*/decision.json"]

  validation {
    condition     = length(var.watch_writes) > 0 && alltrue([for pattern in var.watch_writes : can(regex("^[a-z]+/[^*]*\\*[^*]*$", pattern))])
    error_message = "watch_writes begin with a folder, and have one asterisk each: [\"snapshots/*\"]."
  }
}
