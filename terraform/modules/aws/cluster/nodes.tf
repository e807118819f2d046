# system: what is always there. head: heads of runs, one machine for each, from 0. gpu: workers, from 0.

data "aws_ec2_instance_type" "gpu" {
  for_each      = toset(flatten([for pool in var.gpu_pools : pool.instance_types]))
  instance_type = each.key
}

locals {
  machines = merge(
    { system = { disk_gb = 30, nvme = false }, head = { disk_gb = 50, nvme = false } },
    { for name, pool in var.gpu_pools : "gpu-${name}" => { disk_gb = pool.disk_gb, nvme = pool.nvme } },
  )

  # Caches are emptyDirs, which lie where the kubelet's files do: on the instance's own NVMe disks, as one.
  node_config = <<-EOT
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="BOUNDARY"

    --BOUNDARY
    Content-Type: application/node.eks.aws

    apiVersion: node.eks.aws/v1alpha1
    kind: NodeConfig
    spec:
      instance:
        localStorage:
          strategy: RAID0

    --BOUNDARY--
  EOT
}

resource "aws_launch_template" "node" {
  for_each    = local.machines
  name_prefix = "${var.name}-${each.key}-"
  user_data   = each.value.nvme ? base64encode(local.node_config) : null

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = each.value.disk_gb
      encrypted             = true
      delete_on_termination = true
    }
  }

  # One hop: a pod's packets to the metadata server, and so to the node's role, do not arrive.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-${each.key}" }
  }
}

resource "aws_eks_node_group" "system" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "system"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  version         = aws_eks_cluster.this.version
  ami_type        = "AL2023_x86_64_STANDARD"
  instance_types  = var.system_nodes.instance_types

  scaling_config {
    min_size     = 1
    desired_size = 1
    max_size     = var.system_nodes.max
  }

  launch_template {
    id      = aws_launch_template.node["system"].id
    version = aws_launch_template.node["system"].latest_version
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}

# On demand only: a head that is lost takes its attempt along. The label is what the overlay's heads select; the taint
# keeps all others away, of which one of kube-system would keep the node. One zone: in several, Auto Scaling ends nodes to
# balance the zones, whatever PodDisruptionBudgets say.
resource "aws_eks_node_group" "head" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "head"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [var.subnet_ids[0]]
  version         = aws_eks_cluster.this.version
  ami_type        = "AL2023_x86_64_STANDARD"
  instance_types  = var.head_nodes.instance_types
  labels          = { "thaw/pool" = "head" }

  scaling_config {
    min_size     = 0
    desired_size = 0
    max_size     = var.head_nodes.max
  }

  taint {
    key    = "thaw/head"
    value  = "true"
    effect = "NO_SCHEDULE"
  }

  launch_template {
    id      = aws_launch_template.node["head"].id
    version = aws_launch_template.node["head"].latest_version
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}

resource "aws_eks_node_group" "gpu" {
  for_each        = var.gpu_pools
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "gpu-${each.key}"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  version         = aws_eks_cluster.this.version
  ami_type        = "AL2023_x86_64_NVIDIA"
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  instance_types  = each.value.instance_types

  # The first two tell the autoscaler and the device plugin's chart that there is a GPU; the others are k8s/components'.
  labels = merge(
    { "k8s.amazonaws.com/accelerator" = "nvidia", "nvidia.com/gpu.present" = "true" },
    each.value.spot ? { "thaw/spot" = "true" } : {},
    each.value.nvme ? { "thaw/nvme" = "true" } : {},
  )

  scaling_config {
    min_size     = 0
    desired_size = 0
    max_size     = each.value.max_nodes
  }

  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  dynamic "taint" {
    for_each = each.value.spot ? ["true"] : []

    content {
      key    = "thaw/spot"
      value  = taint.value
      effect = "NO_SCHEDULE"
    }
  }

  launch_template {
    id      = aws_launch_template.node["gpu-${each.key}"].id
    version = aws_launch_template.node["gpu-${each.key}"].latest_version
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]

    precondition {
      condition     = alltrue([for type in each.value.instance_types : length(data.aws_ec2_instance_type.gpu[type].gpus) > 0])
      error_message = "gpu_pools.${each.key}: an instance type has no GPU."
    }
    precondition {
      condition     = alltrue([for type in each.value.instance_types : contains(data.aws_ec2_instance_type.gpu[type].supported_architectures, "x86_64")])
      error_message = "gpu_pools.${each.key}: an instance type has Arm CPUs, and the nodes' image is for x86_64."
    }
    precondition {
      condition = alltrue([
        for type in each.value.instance_types :
        data.aws_ec2_instance_type.gpu[type].default_vcpus > 4 && data.aws_ec2_instance_type.gpu[type].memory_size > 16384
      ])
      error_message = "gpu_pools.${each.key}: a worker asks for 4 CPUs and 16 GiB, which an instance of 4 vCPUs or 16 GiB does not have left: take the next size."
    }
    precondition {
      condition = length(distinct([
        for type in each.value.instance_types :
        "${data.aws_ec2_instance_type.gpu[type].default_vcpus} ${data.aws_ec2_instance_type.gpu[type].memory_size}"
      ])) == 1
      error_message = "gpu_pools.${each.key}: the autoscaler takes all instance types of a pool for the same: they must have as many vCPUs and as much memory."
    }
    precondition {
      condition     = !each.value.nvme || alltrue([for type in each.value.instance_types : data.aws_ec2_instance_type.gpu[type].instance_storage_supported])
      error_message = "gpu_pools.${each.key}: nvme is true, but an instance type has no NVMe disk of its own."
    }
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}
