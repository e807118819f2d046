"""The whole job through its command line, embedded: real servers, a small network of our own.

Three runs of one job serve every test here: from a folder in a process of its own, from S3 (the head, then the rest),
and from GCS.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from safetensors.numpy import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job.storage import Store, open_store
from job.telemetry.board import mirror
from support.cases import slow
from support.images import encode, folder_of, picture
from support.networks import own_base

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES = 131
JOB = """
name: tiny
data: {{source: {root}/source/, max_rejects: 0.1}}
store: {root}/store/
model: {{backbone: {root}/own.keras, image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 8, learning_rate: 3e-2}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}}
augment: {{flip_horizontal: true, flip_vertical: true}}
train: {{batch_size: 16}}
"""


@dataclass(frozen=True)
class Done:
    """A run that ended, with what it left."""

    job: str
    store: Store
    stdout: list[str]
    stderr: list[str]

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.stdout[-1])

    @property
    def run(self) -> str:
        return self.result["run"].removeprefix(self.store.uri)

    def read(self, name: str) -> bytes:
        return self.store.read(f"{self.run}{name}")

    def exported(self) -> bytes:
        """All weights of the model."""
        return open_store(self.result["model"]).read("weights.safetensors")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return own_base(tmp_path_factory.mktemp("base") / "own.keras")


def fill(root: str, base: bytes) -> None:
    store = open_store(root)
    store.write("own.keras", base)
    for key, content in folder_of(EXAMPLES).items():
        store.write(f"source/{key}", content)
    store.write("source/green/truncated.png", picture(1, "green", size=80)[:2000])
    store.write("source/red/a text.jpg", b"only words")
    store.write("source/red/empty.png", b"")


def run(thaw: Thaw, folder: Path, root: str, base: bytes, *phases: str) -> Done:
    fill(root, base)
    job = folder / "job.yaml"
    job.write_text(JOB.format(root=root))
    outputs = []
    for phase in phases:
        done = thaw("run", str(job), "--phase", phase, "--json")
        assert done.returncode == 0, done.stderr
        outputs.append(done)
    return Done(job.read_text(), open_store(f"{root}/store/"), [o.stdout for o in outputs], [o.stderr for o in outputs])


@pytest.fixture(scope="module")
def from_folder(base: bytes, in_new_process: Thaw, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("folder")
    return run(in_new_process, folder, f"file://{folder}", base, "all")


@pytest.fixture(scope="module")
def from_s3(base: bytes, here: Thaw, s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    import boto3

    boto3.client("s3").create_bucket(Bucket="integration")
    return run(here, tmp_path_factory.mktemp("s3"), "s3://integration", base, "head", "all")


@pytest.fixture(scope="module")
def from_gcs(base: bytes, here: Thaw, gcs_server: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    storage.Client(project="test", credentials=AnonymousCredentials()).create_bucket("integration")
    return run(here, tmp_path_factory.mktemp("gcs"), "gs://integration", base, "all")


def test_a_run_ends_with_a_model_that_is_better_than_chance(from_folder: Done) -> None:
    result = from_folder.result
    assert result["state"] == "finished"
    assert result["metrics"]["head"]["accuracy"] > 0.8
    assert result["metrics"]["fine_tune"]["roc_auc"] > 0.9
    assert result["snapshot"] in from_folder.stderr[0]


def test_everything_but_the_result_goes_to_standard_error(from_folder: Done) -> None:
    assert json.loads(from_folder.stdout[0]).keys() >= {"run", "snapshot", "state", "metrics", "model"}
    told = [json.loads(line) for line in from_folder.stderr[0].splitlines()]  # it is no terminal
    assert told[-1]["event"] == "result"
    assert told[-1]["result"] == json.loads(from_folder.stdout[0])
    assert {one["attempt"] for one in told[6:]} == {1}
    noise = [line for line in from_folder.stderr[0].splitlines() if "cudart" in line or "WARNING" in line]
    assert noise == []


def test_unusable_objects_are_rejects_with_a_reason(from_folder: Done) -> None:
    rejects = [json.loads(line) for line in from_folder.read("rejects.jsonl").splitlines()]
    reasons = {reject["key"]: reject["reason"] for reject in rejects}
    assert reasons["red/a text.jpg"] == "not an image: it is text"
    assert reasons["green/truncated.png"].startswith("broken image")
    assert len(reasons) == 2
    assert "3 rejected: 1 empty object" in from_folder.stderr[0]


@pytest.mark.parametrize("other", ["from_s3", *slow("from_gcs")])
def test_every_store_gives_the_same_examples_and_the_same_weights(
    other: str, from_folder: Done, request: pytest.FixtureRequest
) -> None:
    there: Done = request.getfixturevalue(other)
    tables = [
        pq.read_table(f"{root}/snapshots/{done.result['snapshot']}.parquet", filesystem=filesystem)
        for done in (from_folder, there)
        for filesystem, root in [done.store.arrow()]
    ]
    assert tables[0].select(["key", "size", "label", "split"]) == tables[1].select(["key", "size", "label", "split"])
    assert from_folder.exported() == there.exported()
    histories = [json.loads(done.read("training.json"))["history"] for done in (from_folder, there)]
    assert losses(histories[0]) == losses(histories[1])


def test_a_run_that_stopped_after_its_head_ends_with_the_same_bytes(from_folder: Done, from_s3: Done) -> None:
    head, rest = from_s3.stderr
    assert json.loads(from_s3.stdout[0])["state"] == "head"
    assert json.loads(from_s3.stdout[0])["metrics"]["fine_tune"] is None
    assert "from the start" in head
    assert "fine-tune" not in head
    assert "resumed from head epoch 8" in rest
    assert "head epoch   1" not in rest
    assert from_s3.read("fine_tuned.safetensors") == from_folder.read("fine_tuned.safetensors")


def test_the_exported_models_answer_as_the_trained_one(from_folder: Done, tmp_path: Path) -> None:
    from job.evaluation.metrics import softmax
    from job.export.predict import predict

    table = pq.read_table(io.BytesIO(from_folder.read("predictions.parquet"))).to_pylist()
    kept = from_folder.result["kept"]
    wanted = softmax(np.array([row[f"logits_{kept}"] for row in table], np.float32))
    source = from_folder.store.uri.replace("/store/", "/source/")
    records = list(predict(from_folder.result["model"], [source + row["key"] for row in table]))
    got = np.array([list(record["probabilities"].values()) for record in records])
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert [record["class"] for record in records] == [("green", "red")[i] for i in wanted.argmax(axis=1)]

    folder = from_folder.result["model"].removeprefix("file://")
    model = keras.saving.load_model(f"{folder}model.keras", safe_mode=True)
    from job.data.decoding import decode_image

    images = np.stack([decode_image(tf.io.read_file(r["file"][7:]), 32, "stretch").numpy() for r in records])
    np.testing.assert_allclose(model.predict(images.astype(np.float32), verbose=0), wanted, atol=1e-5)


def test_a_broken_picture_among_good_ones_spoils_only_itself(from_folder: Done, here: Thaw, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encode(np.full((40, 40, 3), (255, 80, 80), np.uint8)))
    bad.write_bytes(picture(1, "red", size=90)[:3000])
    command = ("predict", from_folder.result["run"], str(good), str(bad), str(tmp_path / "none.png"))
    done, table = here(*command, "--json"), here(*command)
    assert (done.returncode, table.returncode) == (3, 3)
    answers = json.loads(done.stdout)
    assert answers[0]["class"] in ("green", "red")
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "broken image" in answers[1]["error"]
    assert answers[2]["error"] == "No such file or directory"
    assert "2 of 3 files got no answer; the first: " in done.stderr
    assert answers[0]["class"] in table.stdout


def test_a_finished_run_is_reported_not_repeated(from_folder: Done, here: Thaw) -> None:
    again = here("run", str(Path(from_folder.store.uri.removeprefix("file://")).parent / "job.yaml"), "--json")
    assert json.loads(again.stdout) == from_folder.result
    assert "nothing is left to do" in again.stderr


def test_what_stayed_frozen_is_unchanged_to_the_bit(from_folder: Done) -> None:
    exported = load(from_folder.exported())
    pretrained = {}
    for info in from_folder.store.list("weights/"):
        if info.key.endswith(".safetensors"):
            pretrained = load(from_folder.store.read(info.key))
    changed = {path for path, value in pretrained.items() if value.tobytes() != exported[path].tobytes()}
    assert changed in ({"conv_1/kernel", "conv_1/bias"}, set())
    assert json.loads(from_folder.read("training.json"))["kept"] == ("fine_tune" if changed else "head")


def test_tensorboard_draws_both_phases_on_one_axis(from_s3: Done, tmp_path: Path) -> None:
    mirror(from_s3.store, "runs/", tmp_path)
    found = EventAccumulator(str(next(tmp_path.iterdir())), size_guidance={"scalars": 0}).Reload()
    history = json.loads(from_s3.read("training.json"))["history"]
    epochs = [epoch for phase in ("head", "fine_tune") for epoch in history[phase] if "loss" in epoch]
    drawn = found.Scalars("loss/epoch")
    assert [point.value for point in drawn] == pytest.approx([epoch["loss"] for epoch in epochs])
    steps = len(found.Scalars("loss/step")) // len(epochs)
    assert [point.step for point in drawn] == [steps * (number + 1) for number in range(len(epochs))]
    ends = {"head": steps * len(history["head"]), "fine_tune": steps * len(epochs)}
    for model, end in ends.items():
        assert [one.step for one in found.Tensors(f"confusion/{model}")] == [end]


def test_no_pickle_is_in_the_store(from_folder: Done) -> None:
    keys = [info.key for info in from_folder.store.list()]
    assert [key for key in keys if key.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt"))] == []
    assert any("/checkpoints/" in key for key in keys)


def losses(history: dict[str, list[dict[str, Any]]]) -> list[float]:
    return [epoch["validation_loss"] for phase in ("head", "fine_tune") for epoch in history[phase]]
