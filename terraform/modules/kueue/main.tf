# Its queues are k8s/platform/kueue, or kueue-spot, applied with kubectl once this is there.
resource "helm_release" "this" {
  name             = "kueue"
  namespace        = "kueue-system"
  create_namespace = true
  repository       = "oci://registry.k8s.io/kueue/charts"
  chart            = "kueue"
  version          = "0.19.7"
  atomic           = true
  timeout          = var.timeout_seconds
}
