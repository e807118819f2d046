# IRSA, not Pod Identity: that hands out credentials at a link-local address, which the NetworkPolicies of k8s/base close
# with the nodes' own identity. STS is HTTPS like everything else that a pod may reach.
locals {
  issuer = split(":oidc-provider/", var.oidc_provider_arn)[1]

  # The key serves S3 alone, in the key's own region.
  storage = "s3.${split(":", var.kms_key_arn)[3]}.amazonaws.com"

  roles = {
    run   = { service_account = var.run_service_account, policy = data.aws_iam_policy_document.run.json }
    watch = { service_account = var.watch_service_account, policy = data.aws_iam_policy_document.watch.json }
  }

  watch_writes = [for pattern in var.watch_writes : "${var.store_bucket_arn}/${pattern}"]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  statement {
    sid     = "OneServiceAccount"
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${each.value.service_account}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each             = local.roles
  name                 = "${var.name}-${each.key}"
  description          = "Pods of the service account ${each.value.service_account} in the namespace ${var.namespace}."
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 3600

  lifecycle {
    precondition {
      condition     = var.run_service_account != var.watch_service_account
      error_message = "run_service_account and watch_service_account are the same: the watcher would get what a run may do."
    }
    precondition {
      condition     = var.data_bucket_arn != var.store_bucket_arn
      error_message = "data_bucket_arn and store_bucket_arn are the same: a run could overwrite its examples, and what it writes would arrive as data."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles
  name     = each.key
  role     = aws_iam_role.this[each.key].id
  policy   = each.value.policy
}

# docs/cloud.md names the line of code that needs each permission, and a test compares the two.

data "aws_iam_policy_document" "run" {
  statement {
    sid       = "ListExamples"
    actions   = ["s3:ListBucket"]
    resources = [var.data_bucket_arn]
  }

  statement {
    sid       = "ReadExamples"
    actions   = ["s3:GetObject"]
    resources = ["${var.data_bucket_arn}/*"]
  }

  statement {
    sid       = "ListStore"
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [var.store_bucket_arn]
  }

  statement {
    sid       = "UseStore"
    actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${var.store_bucket_arn}/*"]
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [local.storage]
    }
  }
}

data "aws_iam_policy_document" "watch" {
  statement {
    sid       = "TakeEvents"
    actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
    resources = [var.queue_arn]
  }

  statement {
    sid       = "ListExamples"
    actions   = ["s3:ListBucket"]
    resources = [var.data_bucket_arn]
  }

  statement {
    sid       = "ReadExamples"
    actions   = ["s3:GetObject"]
    resources = ["${var.data_bucket_arn}/*"]
  }

  statement {
    sid       = "ListStore"
    actions   = ["s3:ListBucket"]
    resources = [var.store_bucket_arn]
  }

  statement {
    sid       = "ReadStore"
    actions   = ["s3:GetObject"]
    resources = ["${var.store_bucket_arn}/*"]
  }

  statement {
    sid       = "WriteSnapshots"
    actions   = ["s3:AbortMultipartUpload", "s3:PutObject"]
    resources = local.watch_writes
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [local.storage]
    }
  }
}
