from __future__ import annotations

import pytest

from job.arrival.targets import Target, make_target
from job.config import Job
from job.deploy.api import Api
from job.deploy.submit import Options
from support.deployed import api, following, job, kube, kubectl, overlay, said
from support.watching import Watching

__all__ = ["api", "following", "job", "kube", "kubectl", "overlay", "said"]


@pytest.fixture
def watching() -> Watching:
    return Watching([{"name": "cells", "quiet_for": 60, "max_wait": 900}])


@pytest.fixture
def target(job: Job, overlay: str, api: Api) -> Target:
    return make_target(job, Options(overlay))
