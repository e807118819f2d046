from support.deployed import api, following, job, kube, kubectl, overlay, said

__all__ = ["api", "following", "job", "kube", "kubectl", "overlay", "said"]
