"""What is pinned can be installed by pip too."""

from __future__ import annotations

import platform
import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
X86, ARM = {"platform_machine": "x86_64"}, {"platform_machine": "aarch64"}


def pinned(name: str, machine: dict[str, str]) -> dict[str, str]:
    """What requirements/<name>.txt installs on such a machine, with its versions."""
    lines = re.findall(r"^[a-z0-9].*(?= \\$)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE)
    wanted = [found for found in map(Requirement, lines) if found.marker is None or found.marker.evaluate(machine)]
    return {found.name: str(found.specifier).removeprefix("==") for found in wanted}


def test_what_is_installed_is_for_this_python() -> None:
    """uv, which pins and installs, does not heed `Requires-Python: <3.11`, and pip does."""
    wanted = {found.name: found.metadata.get("Requires-Python") or "" for found in distributions()}
    others = {name: python for name, python in wanted.items() if platform.python_version() not in SpecifierSet(python)}
    assert others == {}


@pytest.mark.parametrize("name", ["dev", "cpu"])
def test_without_gpus_tensorflow_comes_without_cuda_where_there_is_such_a_wheel(name: str) -> None:
    """Both wheels bring the same files: one of them is there, in one version."""
    recorded = pinned("run", X86)["tensorflow"]
    found = {machine["platform_machine"]: pinned(name, machine) for machine in (X86, ARM)}
    wheels = {
        machine: {wheel: packages[wheel] for wheel in ("tensorflow", "tensorflow-cpu") if wheel in packages}
        for machine, packages in found.items()
    }
    assert wheels == {"x86_64": {"tensorflow-cpu": recorded}, "aarch64": {"tensorflow": recorded}}


def test_with_gpus_tensorflow_comes_with_cuda() -> None:
    packages = pinned("gpu", X86)
    assert packages["tensorflow"] == pinned("run", X86)["tensorflow"]
    assert "tensorflow-cpu" not in packages
    assert "nvidia-cudnn-cu12" in packages


def test_no_file_names_where_packages_come_from() -> None:
    assert [file.name for file in (ROOT / "requirements").iterdir() if "://" in file.read_text()] == []
