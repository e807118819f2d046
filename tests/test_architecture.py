"""Imports go one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "job"
BELOW = {
    "errors": set(),
    "libraries": set(),
    "config": {"errors"},
    "jobfile": {"errors", "config"},
    "storage": {"errors", "config"},
    "data": {"errors", "config", "storage"},
    "model": {"errors", "config", "storage"},
    "train": {"errors", "libraries", "config", "storage", "data", "model"},
    "report": {"errors", "libraries", "config", "storage", "data", "model", "train"},
    "run": {"errors", "libraries", "config", "jobfile", "storage", "data", "model", "train", "report"},
    "deploy": {"errors", "config", "jobfile", "storage", "data", "model", "train", "report", "run"},
}
ONLY_IN = {
    "boto3": {"storage", "deploy"},  # its SQS is a queue
    "google.cloud.storage": {"storage"},
    "google.cloud.pubsub_v1": {"deploy"},
    "kubernetes": {"deploy"},
    "mlflow": {"report"},
}
QUEUES = {"boto3": "sqs.py", "google.cloud.pubsub_v1": "pubsub.py"}
"""Of deploy's files, the one that imports it."""
FILES = sorted(ROOT.rglob("*.py"))


DEPLOY = sorted(
    ".".join(("job", *file.relative_to(ROOT).with_suffix("").parts)) for file in (ROOT / "deploy").rglob("[!_]*.py")
)


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_knows_only_the_rooms_to_its_left(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    rooms = {name.split(".")[1] for name in imports(file) if name.startswith("job.")} - {"__version__", room}
    if room in BELOW:
        assert rooms <= BELOW[room]


@pytest.mark.parametrize(("library", "rooms"), ONLY_IN.items())
def test_a_cloud_library_has_its_rooms(library: str, rooms: set[str]) -> None:
    users = {f.relative_to(ROOT).parts[0] for f in FILES if any(name.startswith(library) for name in imports(f))}
    assert users == rooms


@pytest.mark.parametrize(("library", "file"), QUEUES.items())
def test_a_queue_has_one_file(library: str, file: str) -> None:
    users = {f.name for f in (ROOT / "deploy").rglob("*.py") if any(name.startswith(library) for name in imports(f))}
    assert users == {file}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["schema"],
        *([verb, "--help"] for verb in ("run", "plan", "render", "submit", "overlay", "watch", "trigger", "prepare")),
        *([verb, "--help"] for verb in ("promote", "rollback", "status", "report", "cancel", "tensorboard")),
        *([verb, "--help"] for verb in ("compare", "export", "serve", "mlflow")),
    ],
    ids=" ".join,
)
def test_small_verbs_import_neither_tensorflow_nor_ray(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom job.cli import thaw\n"
        f"try:\n    thaw({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print({'tensorflow', 'keras', 'ray', 'boto3', 'kubernetes', 'mlflow'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_deploying_imports_neither_tensorflow_nor_ray() -> None:
    code = (
        f"import sys, {', '.join(DEPLOY)}\n"
        "print({'tensorflow', 'keras', 'ray', 'kubernetes'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
