data "google_storage_project_service_account" "current" {}

locals {
  # Buckets of all the world share their names.
  prefix = "${var.project.id}-${var.name}"
  keys   = toset(var.kms_key == null ? [] : [var.kms_key])
}

# What outlives every cluster is here, and nothing that runs. A destroy that would take the examples or the models ends
# with an error before it begins.
resource "google_storage_bucket" "data" {
  #checkov:skip=CKV_GCP_62:Access logs double the requests of a run; Cloud Audit Logs tell the same where an audit asks for it.
  #checkov:skip=CKV_GCP_78:Soft delete keeps what is overwritten or deleted, for as long as soft_delete_days.
  name                        = "${local.prefix}-data"
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  dynamic "encryption" {
    for_each = local.keys

    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]
}

resource "google_storage_bucket" "store" {
  #checkov:skip=CKV_GCP_62:Access logs double the requests of a run; Cloud Audit Logs tell the same where an audit asks for it.
  #checkov:skip=CKV_GCP_78:Soft delete keeps what is overwritten or deleted, old checkpoints among it, for as long as soft_delete_days.
  name                        = "${local.prefix}-store"
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # A run keeps its latest checkpoints and deletes the older ones: this is how long those are paid for.
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # A run that misses features computes them again.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.feature_days
      matches_prefix = ["features/"]
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  dynamic "encryption" {
    for_each = local.keys

    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_kms_crypto_key_iam_member.storage]
}

# With a key of one's own, Cloud Storage itself uses it; who reads the bucket needs nothing of it.
resource "google_kms_crypto_key_iam_member" "storage" {
  for_each      = local.keys
  crypto_key_id = each.key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = data.google_storage_project_service_account.current.member
}

resource "google_artifact_registry_repository" "this" {
  #checkov:skip=CKV_GCP_84:Images have no secrets; Google's own keys encrypt them.
  repository_id = var.name
  location      = var.location
  format        = "DOCKER"
  description   = "Images of Thaw."

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-the-latest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 20
    }
  }

  cleanup_policies {
    id     = "delete-the-old"
    action = "DELETE"

    condition {
      older_than = "2592000s"
    }
  }
}
