"""Imports go one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from support.imported import called_in_new_process

ROOT = Path(__file__).parents[1] / "job"
BELOW = {
    "errors": set(),
    "libraries": set(),
    "config": {"errors"},
    "jobfile": {"errors", "config"},
    "storage": {"errors", "config"},
    "data": {"errors", "config", "storage"},
    "model": {"errors", "config", "storage"},
    "train": {"errors", "config", "storage", "data", "model"},
    "report": {"errors", "config", "storage", "data", "model", "train"},
    "features": {"errors", "config", "storage", "data", "model", "train"},
    "executors": {"errors", "config", "storage", "data", "model", "train", "features"},
    "run": {"errors", "config", "jobfile", "storage", "data", "model", "train", "report", "features", "executors"},
    "deploy": {"errors", "config", "jobfile", "storage", "data", "model", "train", "report", "executors", "run"},
}
EVERYONES = {"libraries"}
"""Rooms that all others may import."""
ONLY_IN = {
    "boto3": {"storage", "deploy"},  # its SQS is a queue
    "google.cloud.storage": {"storage"},
    "google.cloud.pubsub_v1": {"deploy"},
    "kubernetes": {"deploy"},
    "mlflow": {"report"},
}
USERS_OF_RAY = {
    "run/sweep.py",  # asks a cluster how many runs it has room for
    "run/forecast/rehearsal.py",  # its processes have the environment of Ray's workers
}
"""Files out of executors/ that import what is in executors/ray."""
QUEUES = {"boto3": "sqs.py", "google.cloud.pubsub_v1": "pubsub.py"}
"""Of deploy's files, the one that imports it."""
SMALL = (
    "--help",
    "schema",
    *(f"{verb} --help" for verb in ("run", "plan", "render", "submit", "overlay", "watch", "trigger", "prepare")),
    *(f"{verb} --help" for verb in ("promote", "rollback", "status", "report", "cancel", "tensorboard")),
    *(f"{verb} --help" for verb in ("compare", "export", "serve", "mlflow")),
)
"""Command lines that whoever waits for them wants answered at once."""
FILES = sorted(ROOT.rglob("*.py"))
DEPLOY = sorted(
    ".".join(("job", *file.relative_to(ROOT).with_suffix("").parts)) for file in (ROOT / "deploy").rglob("[!_]*.py")
)


@cache
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
        assert rooms <= BELOW[room] | EVERYONES


@pytest.mark.parametrize(("library", "rooms"), ONLY_IN.items())
def test_a_cloud_library_has_its_rooms(library: str, rooms: set[str]) -> None:
    users = {f.relative_to(ROOT).parts[0] for f in FILES if any(name.startswith(library) for name in imports(f))}
    assert users == rooms


def test_ray_has_one_folder() -> None:
    users = {f.parent.relative_to(ROOT) for f in FILES if any(re.match(r"ray(\.|$)", name) for name in imports(f))}
    assert users == {Path("executors/ray")}


def test_few_outside_the_executors_know_that_there_is_ray() -> None:
    users = {f.relative_to(ROOT) for f in FILES if any(name.startswith("job.executors.ray") for name in imports(f))}
    assert {str(file) for file in users if file.parts[0] != "executors"} == USERS_OF_RAY


@pytest.mark.parametrize(("library", "file"), QUEUES.items())
def test_a_queue_has_one_file(library: str, file: str) -> None:
    users = {f.name for f in (ROOT / "deploy").rglob("*.py") if any(name.startswith(library) for name in imports(f))}
    assert users == {file}


def test_small_verbs_import_neither_tensorflow_nor_ray() -> None:
    called = called_in_new_process(*(words.split() for words in SMALL))
    found = {words: (one.ended, one.imported) for words, one in zip(SMALL, called, strict=True)}
    assert found == dict.fromkeys(SMALL, ("0", set()))


def test_deploying_imports_neither_tensorflow_nor_ray() -> None:
    code = (
        f"import sys, {', '.join(DEPLOY)}\n"
        "print({'tensorflow', 'keras', 'ray', 'kubernetes'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
