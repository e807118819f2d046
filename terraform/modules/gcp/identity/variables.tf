variable "name" {
  type        = string
  description = "Prefix of the names of service accounts and roles."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and dashes, begins with a letter, and does not end in a dash."
  }
}

variable "workload_pool" {
  type        = string
  description = "The cluster's pool of workload identities, which is there once the project has had a cluster with one: take it from the cluster module's output."

  validation {
    condition     = endswith(var.workload_pool, ".svc.id.goog")
    error_message = "workload_pool ends with .svc.id.goog: my-project.svc.id.goog."
  }
}

variable "data_bucket" {
  type        = string
  description = "Name of the bucket of the examples, which are read only."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.data_bucket))
    error_message = "data_bucket is the bucket's name alone, without gs:// and without a folder."
  }
}

variable "store_bucket" {
  type        = string
  description = "Name of the bucket of the store, which belongs to Thaw alone."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.store_bucket))
    error_message = "store_bucket is the bucket's name alone, without gs:// and without a folder."
  }
}

variable "subscription" {
  type        = string
  description = "Subscription of the arrival events."

  validation {
    condition     = can(regex("^projects/[^/*]+/subscriptions/[^/*]+$", var.subscription))
    error_message = "subscription is a subscription's whole name: projects/…/subscriptions/…"
  }
}

variable "repository" {
  type        = object({ id = string, location = string })
  description = "Image repository that the nodes read: its id and its region."
}

variable "node_member" {
  type        = string
  description = "Service account of the nodes, as IAM names it: serviceAccount:…"

  validation {
    condition     = startswith(var.node_member, "serviceAccount:")
    error_message = "node_member begins with serviceAccount: it is one account, and nobody else."
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
