"""What a test needs of the machine that it runs on."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def leave_out(reason: str) -> NoReturn:
    """Skips the test; fails it where every tool is required."""
    (pytest.fail if os.environ.get("THAW_REQUIRE_TOOLS") == "1" else pytest.skip)(reason)


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        leave_out(f"{', '.join(missing)} is not installed")
