"""The recipe as a Thaw job, run by its command line from an empty store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peers_recipe import BATCH, BLOCKS, CLASSES, MODEL, RATES, Recipe, build_model
from peers_recipe import accuracy as accuracy_of

SETTINGS: tuple[str, ...] = ("train.cache=on",)
"""More settings of the job file, each as `--set` takes it: "a.b=value"."""

JOB = """\
name: peers
data: {{source: "file://{folder}/data/"}}
store: "file://{scratch}/store/"
model: {model}
phases:
  head: {{epochs: {recipe.head_epochs}, learning_rate: {rates[head]}, patience: {recipe.head_epochs}}}
  fine_tune:
    unfreeze: {{blocks: {blocks}}}
    epochs: {recipe.fine_tune_epochs}
    learning_rate: {rates[fine_tune]}
    allow_unconverged_head: true
train: {{batch_size: {batch}, seed: {recipe.seed}}}
scaling: {{workers: {recipe.workers}}}
"""
LINES = {"start": "training on", "end": "fine-tune epoch"}
"""Words of its lines on standard error. Of lines alike, the last one counts."""


def run(recipe: Recipe, scratch: Path) -> dict[str, Any]:
    model = json.dumps(MODEL.model_dump(mode="json"))
    values = {"recipe": recipe, "folder": recipe.folder, "scratch": scratch, "model": model}
    job = scratch / "job.yaml"
    job.write_text(JOB.format(**values, rates=RATES, blocks=BLOCKS, batch=BATCH))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    begun = time.time()
    result, told = _run_job([sys.executable, "-m", "job", "run", str(job), *settings, "--json"], scratch)
    whole = time.time() - begun
    if not list(recipe.folder.glob(f"store/snapshots/{result['snapshot']}.parquet")):
        raise SystemExit("peers: Thaw took another split than the others")
    history = json.loads(Path(result["run"].removeprefix("file://"), "training.json").read_text())["history"]
    seconds = {phase: [e["seconds"] for e in epochs if "seconds" in e] for phase, epochs in history.items()}
    accuracy = result["metrics"]["fine_tune"]["accuracy"]
    last = _accuracy_of_last(recipe, Path(result["run"].removeprefix("file://")))
    return {"whole": whole, **told, **seconds, "kept": result["kept"], "accuracy": accuracy, "accuracy_of_last": last}


def _accuracy_of_last(recipe: Recipe, run: Path) -> float:
    """Of the last epoch's weights, as the guides keep them; Thaw keeps the best ones on the validation split."""
    import numpy as np
    from peers_keras import dataset

    from job.model.heads import build_head
    from job.model.network import build_network, variables_by_path
    from job.run.state import read_state
    from job.storage import open_store
    from job.training.checkpointer import load_checkpoint

    store = open_store(f"file://{run.parents[1]}/")
    found = read_state(store, run.name)
    assert found is not None
    last = load_checkpoint(store, run.name, found.state.checkpoints[-1])
    assert (last.progress.phase, last.progress.finished) == ("fine_tune", True)
    base, _ = build_model(recipe.seed, run.parents[1])
    network = build_network(base, build_head(base.output_shape[-1], MODEL.head, len(CLASSES), seed=recipe.seed))
    variables = variables_by_path(network.model)
    for path, value in last.weights.items():
        variables[path].assign(value)
    logits = network.model.predict(dataset(recipe, "test"), verbose=0)
    return accuracy_of(logits, np.array(recipe.examples("test")[1]))


def _run_job(command: list[str], scratch: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The job's result, and when it said each of LINES."""
    environment = {**os.environ, "THAW_CACHE": str(scratch / "cache"), "THAW_LOG": "text"}
    told: dict[str, float] = {}
    lines = []
    with (
        open(scratch / "result.json", "w+") as result,
        subprocess.Popen(command, stdout=result, stderr=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            now = time.time()
            lines.append(line)
            if re.match(r"\d\d:\d\d ", line):
                told |= {name: now for name, words in LINES.items() if words in line}
    if process.returncode:
        raise SystemExit(f"peers: Thaw ended with {process.returncode}:\n{''.join(lines[-20:])}")
    return json.loads((scratch / "result.json").read_text()), told
