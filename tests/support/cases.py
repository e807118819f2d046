"""What `make test` has of many cases; all others are in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from job.config import LITE

DEFAULT = {"mobilenetv2", "vgg16", *LITE}
"""Depthwise and residuals; plain. And those that are built here."""


def slow(*cases: Any) -> list[Any]:
    """The cases, for `make test-all` alone."""
    return [pytest.param(*_values(case), marks=pytest.mark.slow) for case in cases]


def families(cases: Iterable[Any]) -> list[Any]:
    """The same cases, which are names of networks or begin with one, those that are not in DEFAULT as slow ones."""
    return [case if _values(case)[0] in DEFAULT else slow(case)[0] for case in cases]


def _values(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
