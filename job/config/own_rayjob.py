"""The RayJob that this process is part of."""

from __future__ import annotations

import os


def own_rayjob() -> str:
    """Its name; empty where this is no pod of one.

    THAW_RAYJOB has it, but on a schedule: KubeRay makes the names of those RayJobs, and pods are told that of their
    RayCluster alone, which is the RayJob's with five random characters behind it.
    """
    name = os.environ.get("THAW_RAYJOB", "")
    return name.rpartition("-")[0] if name and name == os.environ.get("THAW_CLUSTER") else name
