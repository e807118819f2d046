"""`thaw plan` as a user types it, on a run that was planned before and on a new one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.config.jobfile import load_job
from job.features.cache_plan import choose_plan, featurizers, write_plan
from job.features.dataset import read_examples
from job.model.anatomy import anatomy_of, write_anatomy
from job.run.identity import find_run
from job.storage import ObjectInfo, open_store
from support import texts
from support.images import folder_of
from support.imported import called_in_new_process
from support.networks import own_base
from support.stored import write_part

EXAMPLES = 60
JOB = """
name: small
data: {{source: 'file://{root}/source/', max_rejects: 0.2}}
store: 'file://{root}/store/'
model: {{backbone: 'file://{root}/own.keras', image_size: 32, head: {{hidden: [8]}}}}
phases: {{head: {{epochs: 9, patience: 3}}, fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 2}}}}
train: {{batch_size: 16, cache: 'on'}}
scaling: {{workers: 2, worker_price: 0.5}}
"""
DOCUMENTED = Path(__file__).parents[2] / "docs/plan.md"


class Told(NamedTuple):
    """What `thaw plan` tells of a job, and does."""

    document: dict[str, Any]
    text: str
    imported: set[str]
    changed: bool
    """The store."""


def measured(job: Path) -> dict[str, Any]:
    """The document of `thaw plan`, in a process that is not used for anything else."""
    done = subprocess.run([sys.executable, "-m", "job", "plan", str(job), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def objects(folder: Path) -> list[ObjectInfo]:
    return list(open_store(f"file://{folder}/").list()) if folder.exists() else []


def write_job(folder: Path) -> Path:
    own_base(folder / "own.keras")
    source = open_store(f"file://{folder}/source/")
    for key, content in {**folder_of(EXAMPLES), "red/no picture.png": b"text", ".hidden": b"x"}.items():
        source.write(key, content)
    (folder / "job.yaml").write_text(JOB.format(root=folder))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose run was planned, and has the pooled features of all its examples; one is the copy of another."""
    folder = tmp_path_factory.mktemp("planned")
    file = write_job(folder)
    job = load_job(file)
    source, store = open_store(job.data.source), open_store(job.store)
    found = find_run(job, source, store, emit=lambda event: None)
    plan = choose_plan(job, found.network, found.snapshot)  # type: ignore[arg-type]
    write_plan(store, found.run, plan)
    write_anatomy(store, found.run, anatomy_of(found.network, plan.cut))  # type: ignore[arg-type]
    examples = read_examples(store, found.snapshot, source.uri, packed=False)
    values = np.random.default_rng(0).standard_normal((len(examples.rows), plan.features)).astype(np.float32)
    train, held = (int(np.flatnonzero(examples.splits == side)[0]) for side in (0, 2))
    values[held] = values[train]
    pooled, _ = featurizers(job, found.base, plan)
    write_part(store, pooled[0], examples.addresses, values=values)
    return file


@pytest.fixture(scope="module")
def told(planned: Path) -> Told:
    command = ["plan", str(planned), "--no-calibration", "--gpu", "h100", "--workers", "64"]
    command += ["--set", "limits={hours: 50000, deadline: '2020-01-01T00:00Z'}"]
    before = objects(planned.parent / "store")
    called = called_in_new_process([*command, "--json"], command)
    assert [one.ended for one in called] == ["0", "0"]
    changed = objects(planned.parent / "store") != before
    return Told(json.loads(called[0].output), called[1].output, called[0].imported | called[1].imported, changed)


def test_a_run_that_was_planned_needs_no_tensorflow_and_nothing_is_written(told: Told) -> None:
    found = told.document
    assert told.imported & {"tensorflow", "keras", "ray"} == set()
    assert not told.changed
    assert found["run"]["state"] == "new"
    assert found["data"]["examples"] == EXAMPLES + 1
    assert (found["data"]["left_out"], found["data"]["rejects"]["listing"]) == ({"hidden or of the system": 1}, {})
    assert found["data"]["rejects"]["sample"] == {"not an image: it is text": 1}
    assert found["data"]["duplicates"]["held_out_with_a_near_copy"] == 1
    pooled, at_cut = found["cache"]["tensors"]
    assert (pooled["stored"], at_cut["stored"], at_cut["needed"]) == (61, 0, 61)
    assert found["network"]["cut"] == at_cut["tap"]
    assert [stage["name"] for stage in found["time"]["stages"] if stage["seconds"] is None] == [
        "features",
        "head",
        "fine_tune",
    ]
    assert found["time"]["total"] is None


def test_a_model_says_what_workers_that_are_not_here_would_take(told: Told) -> None:
    scale = told.document["scale"]
    assert (scale["gpu"], scale["workers"]) == ("h100", 64)
    assert [stage["name"] for stage in scale["stages"]] == [
        "listing", "features", "head_workers", "head", "workers", "fine_tune",
    ]  # fmt: skip
    assert scale["seconds"] == pytest.approx(sum(stage["seconds"] for stage in scale["stages"]))
    held = sum(stage["seconds"] for stage in scale["stages"] if stage["gpus"])
    assert scale["gpu_hours"] == pytest.approx(held * 64 / 3600)
    assert "on 64 workers with h100, by a model" in told.text
    assert "a model, not a measurement" in " ".join(told.text.split())
    assert "training keeps 16 workers busy" in told.text, "its batch has 16 examples"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "8"], "give --gpu as well"),
        (["--gpu", "h1000"], "one of t4, l4,"),
        (["--workers", "0"], "0 is"),
    ],
)
def test_a_model_of_what_there_is_not_is_refused(options: list[str], said: str, planned: Path) -> None:
    refused = CliRunner().invoke(thaw, ["plan", str(planned), *options])
    assert refused.exit_code == 2
    assert said in refused.output


def test_a_person_reads_the_same(told: Told) -> None:
    assert "61 examples in 2 classes" in told.text
    assert "left out: 1 (1 hidden or of the system)" in told.text
    assert re.search(r"1 of \d+ held-out examples are nearly the same as a", told.text)
    assert re.search(r"fine-tuning +\? +not measured", told.text)
    assert max(len(line) for line in told.text.splitlines() if "://" not in line) <= 80


def test_limits_are_said_with_what_is_left_of_them(told: Told) -> None:
    deadline, hours = told.document["limits"]
    assert (deadline["setting"], deadline["fits"], hours["setting"], hours["fits"]) == (
        "limits.deadline", "no", "limits.hours", "unknown",
    )  # fmt: skip
    assert hours["left"] == 3600 * 50_000
    assert "limits.deadline: 2020-01-01 00:00 UTC, reached: it does not fit" in told.text
    (warned,) = [warning["text"] for warning in told.document["warnings"] if warning["setting"] == "limits.deadline"]
    assert warned.startswith("2020-01-01 00:00 UTC: nothing of it is left, and the run is expected to take more")


def test_every_key_of_the_document_is_documented(told: Told) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if not isinstance(value, dict):
            return set()
        inner = (
            item for name, item in value.items() if name not in ("counts", "left_out", "listing", "decoding", "sample")
        )
        return {*value, *set().union(*map(keys, inner))}

    words = set(re.findall(r"[a-z_]+", DOCUMENTED.read_text()))
    assert keys(told.document) - words == set()


@pytest.mark.slow
def test_a_new_job_is_measured_and_its_store_is_not_even_made(tmp_path: Path) -> None:
    file = write_job(tmp_path)
    found = measured(file)
    assert not (tmp_path / "store").exists()
    assert found["time"]["calibration"]["took"] > 0
    total = found["time"]["total"]
    assert 0 < total["low"] < total["likely"] < total["high"]
    assert found["price"]["price"]["likely"] == pytest.approx(total["likely"] * 2 / 3600 * 0.5)
    assert {stage["source"] for stage in found["time"]["stages"]} == {"measured", "calibration", "derived"}
    assert found["network"]["thawed"] == ["conv_1"]
    assert found["cache"]["examples_to_compute"] == EXAMPLES + 1


@pytest.mark.slow
def test_texts_with_word_vectors_are_planned_and_measured(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    source.write("texts.jsonl", texts.lines_of(80))
    (tmp_path / "vectors.txt").write_bytes(texts.vectors())
    table = "{file: texts.jsonl, key: key, text: body, label: kind}"
    model = f"{{backbone: glove, weights: '{tmp_path}/vectors.txt', max_tokens: 16}}"
    (tmp_path / "job.yaml").write_text(
        f"name: words\ntask: text\nstore: 'file://{tmp_path}/store/'\nmodel: {model}\n"
        f"data: {{source: 'file://{tmp_path}/source/', layout: table, table: {table}}}\n"
    )
    found = measured(tmp_path / "job.yaml")
    assert not (tmp_path / "store").exists()
    assert found["data"]["examples"] == 80
    assert [tensor["tap"] for tensor in found["cache"]["tensors"]] == ["pooled", "words"]
    assert found["phases"][1]["trainable"] is None  # the words are not known before the texts are read
    assert found["time"]["total"]["likely"] > 0
