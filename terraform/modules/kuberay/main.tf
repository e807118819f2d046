# The namespace is the one from which the NetworkPolicies of k8s/base let the operator in. Helm updates no custom
# resource definitions: k8s/platform/README.md says how to, before the version here changes.
resource "helm_release" "this" {
  name             = "kuberay-operator"
  namespace        = "kuberay-system"
  create_namespace = true
  repository       = "https://ray-project.github.io/kuberay-helm/"
  chart            = "kuberay-operator"
  version          = "1.7.1"
  values           = [file("${path.module}/../../../k8s/platform/kuberay/values.yaml")]
  atomic           = true
  timeout          = var.timeout_seconds
}
