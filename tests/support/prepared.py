"""A small run in a folder of its own, for tests that start it as a user would."""

from __future__ import annotations

import sys
from pathlib import Path

from job.storage import open_store
from support.images import folder_of
from support.networks import own_base

EXAMPLES = 83


def prepare_run(folder: Path, job: str) -> list[str]:
    """Writes a network, pictures and a job file (`{root}` stands for the folder); returns the run's command."""
    own_base(folder / "own.keras")
    source = open_store(f"file://{folder}/source/")
    for key, content in folder_of(EXAMPLES).items():
        source.write(key, content)
    (folder / "job.yaml").write_text(job.format(root=folder))
    return [sys.executable, "-m", "job", "run", str(folder / "job.yaml"), "--json"]
