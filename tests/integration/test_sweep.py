"""`thaw sweep` as a user types it: a run for each depth and seed, and one extraction for all of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from job.registry.current import read_current
from job.storage import open_store
from support.images import folder_of
from support.networks import own_base

EXAMPLES = 96
JOB = """
name: deep
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 4, learning_rate: 3e-2, patience: 2}}
  fine_tune: {{epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}}
train: {{batch_size: 16, cache: on}}
"""


def test_all_depths_and_seeds_share_one_extraction(
    in_new_process: Callable[..., subprocess.CompletedProcess[str]],
    here: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    own_base(tmp_path / "own.keras")
    store, source = (open_store(f"file://{tmp_path}/{name}/") for name in ("store", "source"))
    for key, content in folder_of(EXAMPLES).items():
        source.write(key, content)
    (tmp_path / "job.yaml").write_text(JOB.format(root=tmp_path))
    words = ["sweep", str(tmp_path / "job.yaml"), "--unfreeze", "0,2", "--seeds", "2", "--json"]
    done = in_new_process(*words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(row["blocks"], row["seed"]) for row in found["runs"]] == [(b, s) for b in (0, 2) for s in (0, 1)]
    assert "absl" not in done.stderr  # TensorFlow's first words, whichever stage imports it
    assert done.stderr.count("computing the features of") == 1
    assert f"computing the features of {EXAMPLES} examples" in done.stderr
    assert done.stderr.count(f"the features of all {EXAMPLES} examples are stored already") == 3
    parameters = [depth["parameters"] for depth in found["depths"]]
    assert parameters == sorted(set(parameters))
    assert all(depth["accuracy"] > 0.6 and depth["accuracy_deviation"] is not None for depth in found["depths"])
    assert read_current(store, "deep") is None, "a sweep puts nothing into use"
    folder = found["sweep"].removeprefix(store.uri)
    assert json.loads(store.read(f"{folder}sweep.json"))["runs"] == found["runs"]
    drawn = "".join(ElementTree.fromstring(store.read(f"{folder}sweep.svg")).itertext())
    assert "deep: how deep to thaw (2 seeds)" in drawn
    again = here(*words)
    assert json.loads(again.stdout) == found
    assert again.stderr.count("this run is finished") == 4
