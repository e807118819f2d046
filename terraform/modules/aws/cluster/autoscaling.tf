data "aws_region" "current" {}

locals {
  regional = split(":cluster/", aws_eks_cluster.this.arn)[0]
  issuer   = split(":oidc-provider/", aws_iam_openid_connect_provider.this.arn)[1]

  # Gigabytes for pods on a node that is not there yet, of which the autoscaler knows CPUs, memory and GPUs alone: without
  # this no pod that asks for ephemeral storage, as all of Thaw's do, would make a pool leave 0. A sixth is the kubelet's.
  storage_gb = merge(
    { head = local.machines["head"].disk_gb },
    {
      for name, pool in var.gpu_pools : "gpu-${name}" => pool.nvme ? min([
        for type in pool.instance_types : data.aws_ec2_instance_type.gpu[type].total_instance_storage
      ]...) : pool.disk_gb
    },
  )
  groups = merge(
    { head = aws_eks_node_group.head },
    { for name, group in aws_eks_node_group.gpu : "gpu-${name}" => group },
  )
}

resource "aws_autoscaling_group_tag" "storage" {
  for_each               = local.storage_gb
  autoscaling_group_name = local.groups[each.key].resources[0].autoscaling_groups[0].name

  tag {
    key                 = "k8s.io/cluster-autoscaler/node-template/resources/ephemeral-storage"
    value               = "${floor(each.value * 5 / 6)}G"
    propagate_at_launch = false
  }
}

resource "helm_release" "autoscaler" {
  name       = "cluster-autoscaler"
  namespace  = "kube-system"
  repository = "https://kubernetes.github.io/autoscaler"
  chart      = "cluster-autoscaler"
  version    = "9.57.0"

  values = [yamlencode({
    awsRegion     = data.aws_region.current.region
    autoDiscovery = { clusterName = aws_eks_cluster.this.name }
    image         = { tag = "v${var.kubernetes_version}.0" }
    extraArgs     = { scale-down-unneeded-time = "5m" }
    resources     = { requests = { cpu = "50m", memory = "256Mi" }, limits = { memory = "512Mi" } }
    rbac = {
      serviceAccount = {
        name        = "cluster-autoscaler"
        annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.autoscaler.arn }
      }
    }
  })]

  depends_on = [aws_eks_addon.coredns, aws_iam_role_policy.autoscaler]
}

# The accelerator image has the driver; this tells Kubernetes of the GPUs.
resource "helm_release" "device_plugin" {
  name       = "nvidia-device-plugin"
  namespace  = "kube-system"
  repository = "https://nvidia.github.io/k8s-device-plugin"
  chart      = "nvidia-device-plugin"
  version    = "0.17.1"

  values = [yamlencode({
    tolerations = [
      { key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" },
      { key = "thaw/spot", operator = "Exists", effect = "NoSchedule" },
    ]
  })]

  depends_on = [aws_eks_addon.coredns]
}

resource "aws_iam_role" "autoscaler" {
  name               = "${var.name}-autoscaler"
  description        = "The cluster autoscaler of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.autoscaler_trust.json
}

resource "aws_iam_role_policy" "autoscaler" {
  name   = "autoscaler"
  role   = aws_iam_role.autoscaler.id
  policy = data.aws_iam_policy_document.autoscaler.json
}

data "aws_iam_policy_document" "autoscaler_trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.this.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:kube-system:cluster-autoscaler"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "autoscaler" {
  #checkov:skip=CKV_AWS_356:The Describe actions of EC2 and Auto Scaling can't be limited to a resource; those that change something are.
  statement {
    sid = "Look"
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeTags",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "LookAtNodeGroups"
    actions   = ["eks:DescribeNodegroup"]
    resources = ["${local.regional}:nodegroup/${var.name}/*"]
  }

  statement {
    sid       = "ScaleThisCluster"
    actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    resources = ["${replace(local.regional, ":eks:", ":autoscaling:")}:autoScalingGroup:*:autoScalingGroupName/eks-*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}
