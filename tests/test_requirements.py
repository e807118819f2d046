"""What is pinned can be installed by pip too."""

from __future__ import annotations

import platform
from importlib.metadata import distributions

from packaging.specifiers import SpecifierSet


def test_what_is_installed_is_for_this_python() -> None:
    """uv, which pins and installs, does not heed `Requires-Python: <3.11`, and pip does."""
    wanted = {found.name: found.metadata.get("Requires-Python") or "" for found in distributions()}
    others = {name: python for name, python in wanted.items() if platform.python_version() not in SpecifierSet(python)}
    assert others == {}
