"""Which networks the short tests have; all others are in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from job.config import LITE

DEFAULT = {"convnexttiny", "mobilenetv2", "resnet50", "vgg16", *LITE}
"""Layer norm and stochastic depth; depthwise; residuals; plain. And those that are built here."""


def families(cases: Iterable[Any]) -> list[Any]:
    """The same cases, which are names of networks or begin with one, those that are not in DEFAULT as slow ones."""
    found = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=() if values[0] in DEFAULT else pytest.mark.slow))
    return found
