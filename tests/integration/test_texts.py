"""Texts through the command line: the same run as that of pictures, on word vectors.

A run from a folder, the same texts from a table in S3, the first again once texts with new words have come, and one
with a recurrent encoder; and the demo on real vectors and real texts, where the machine can fetch them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load

from job.config import Split
from job.data.splits import split_of
from job.data.text import decode_text, ids_of_words
from job.features.store import Featurizer, stored_features
from job.storage import Store, open_store
from job.text.vocabulary import kept_vectors
from support import texts

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES, ADDED = 120, 10
RARE = "other3"
"""A word of one text, which is in the test split."""
JOB = """
name: notes
task: text
data: {{source: {root}/source/, max_rejects: 0.1{layout}}}
store: {root}/store/
model: {{backbone: glove, weights: {root}/vectors.txt.gz, max_tokens: 16, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 8, learning_rate: 1e-2, patience: 2}}
  fine_tune: {{epochs: 2, learning_rate: 1e-2, optimizer: adamw, weight_decay: 0.1, allow_unconverged_head: true}}
train: {{batch_size: 16}}
"""
TABLE = ", layout: table, table: {file: all.jsonl, text: body, label: kind}"


@dataclass(frozen=True)
class Place:
    """A root with vectors, a job file, its source and its store."""

    thaw: Thaw
    job: Path
    root: str

    @property
    def store(self) -> Store:
        return open_store(f"{self.root}/store/")

    def run(self, *changes: str) -> dict[str, Any]:
        done = self.thaw("run", str(self.job), "--json", *(word for change in changes for word in ("--set", change)))
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "told": done.stderr}

    def stored(self) -> dict[str, int]:
        """Examples in the feature store by tap."""
        folders = {info.key.split("/")[1] for info in self.store.list("features/")}
        described = [self.store.read(f"features/{folder}/featurizer.json") for folder in folders]
        found = [Featurizer.from_json(json.loads(content)) for content in described]
        return {f"{f.tap} {f.shape[0]}": len(stored_features(self.store, f).addresses) for f in found}


def rare_key() -> str:
    return next(key for key in (f"sailing/rare {n}.txt" for n in range(99)) if split_of(key, Split()) == "test")


def all_texts() -> dict[str, bytes]:
    rare = f"the old {RARE} is {texts.WORDS['sailing'][0]}".encode()
    return {**texts.folder_of(EXAMPLES), rare_key(): rare}


def made(thaw: Thaw, folder: Path, root: str, layout: str) -> Place:
    import gzip

    open_store(f"{root}/").write("vectors.txt.gz", gzip.compress(texts.vectors(), mtime=0))
    (folder / "job.yaml").write_text(JOB.format(root=root, layout=layout))
    return Place(thaw, folder / "job.yaml", root)


@pytest.fixture(scope="module")
def place(here: Thaw, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("texts")
    place = made(here, folder, f"file://{folder}", "")
    for key, content in all_texts().items():
        open_store(f"{place.root}/source/").write(key, content)
    open_store(f"{place.root}/source/").write("cooking/latin.txt", b"cr\xe8me")
    open_store(f"{place.root}/source/").write("sailing/dots.txt", b"... !\n")
    return place


@pytest.fixture(scope="module")
def first(place: Place) -> dict[str, Any]:
    return place.run()


@pytest.fixture(scope="module")
def from_table(here: Thaw, s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import boto3

    boto3.client("s3").create_bucket(Bucket="texts")
    place = made(here, tmp_path_factory.mktemp("table"), "s3://texts/a", TABLE)
    rows = [{"key": key, "body": text.decode(), "kind": key.split("/")[0]} for key, text in all_texts().items()]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    open_store(f"{place.root}/source/").write("all.jsonl", lines)
    return place.run()


def exported(result: dict[str, Any]) -> dict[str, np.ndarray]:
    return load(open_store(result["model"]).read("weights.safetensors"))


def test_words_tell_the_classes_apart(place: Place, first: dict[str, Any]) -> None:
    for metrics in first["metrics"].values():
        assert metrics["accuracy"] > 0.9
    assert place.stored() == {"words 16": EXAMPLES + 1, f"pooled {texts.DIMENSIONS}": EXAMPLES + 1}
    for reason in ("cooking/latin.txt: not UTF-8 text", "sailing/dots.txt: no words in it"):
        assert reason in first["told"]


def test_unknown_words_are_in_the_result_and_told(first: dict[str, Any]) -> None:
    words = first["words"]
    count = sum(text.decode().lower().count(texts.UNKNOWN) for text in all_texts().values())
    assert words["worst"] == [[texts.UNKNOWN, count]]
    assert words["unknown"] == count
    assert f"without a vector: {count} of {words['occurrences']} words" in first["told"]


def test_words_outside_the_train_split_stay_as_they_were_to_the_bit(place: Place, first: dict[str, Any]) -> None:
    run = first["run"].removeprefix(place.store.uri)
    sha256 = next(place.store.list("vectors/")).key.split("/")[1]
    _, ids, values = kept_vectors(place.store, sha256)
    pretrained = dict(zip(ids.tolist(), values, strict=True))
    weights = exported(first)
    frozen = weights["word_vectors/frozen_ids"].tolist()
    assert frozen == ids_of_words(tf.constant([RARE])).numpy().tolist()
    assert weights["word_vectors/frozen"][0].tobytes() == pretrained[frozen[0]].tobytes()
    tuned = load(place.store.read(f"{run}fine_tuned.safetensors"))
    assert {path for path in tuned if path.startswith("word_vectors")} == {"word_vectors/trained"}
    before = np.stack([pretrained[id] for id in weights["word_vectors/trained_ids"].tolist()])
    assert (tuned["word_vectors/trained"] != before).any(axis=1).all()


def test_a_table_in_s3_ends_with_the_bytes_of_the_folder(first: dict[str, Any], from_table: dict[str, Any]) -> None:
    ours, theirs = exported(first), exported(from_table)
    assert ours.keys() == theirs.keys()
    for path in ours:
        assert ours[path].tobytes() == theirs[path].tobytes(), path
    assert from_table["words"] == first["words"]
    assert from_table["metrics"] == first["metrics"]


def test_the_exported_model_takes_strings(first: dict[str, Any], here: Thaw, tmp_path: Path) -> None:
    files = {"a.txt": b"Whisk the butter, then simmer.", "b.txt": "The crew don’t see the keel".encode(), "c.txt": b"."}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = here("predict", first["model"], *(str(tmp_path / name) for name in files), "--json")
    records = json.loads(done.stdout)
    assert done.returncode == 3
    assert [record.get("class", record.get("error")) for record in records] == ["cooking", "sailing", "no words in it"]
    folder = Path(first["model"].removeprefix("file://"))
    network = keras.saving.load_model(folder / "model.keras")
    ids = np.stack([decode_text(tf.constant(files[name]), 16).numpy() for name in ("a.txt", "b.txt")])
    chances = [list(record["probabilities"].values()) for record in records[:2]]
    np.testing.assert_allclose(network(ids).numpy(), chances, rtol=1e-5, atol=1e-7)


def test_only_new_texts_are_computed_and_only_new_words_looked_for(place: Place, first: dict[str, Any]) -> None:
    source = open_store(f"{place.root}/source/")
    for key, content in texts.folder_of(EXAMPLES + ADDED).items():
        if source.stat(key) is None:
            source.write(key, content + b" With other1 and other2.")
    second = place.run()
    for what in ("words", "features"):  # the two that were rejected are not read again either
        assert f"computing the {what} of {ADDED} examples; {EXAMPLES + 1 + 2} have theirs" in second["told"]
    assert "looking for the vectors of 2 words" in second["told"]
    assert place.stored() == {"words 16": EXAMPLES + 1 + ADDED, f"pooled {texts.DIMENSIONS}": EXAMPLES + 1 + ADDED}
    assert second["promotion"]["against"] == first["run"].rstrip("/").rpartition("/")[2]


@pytest.mark.slow
def test_a_recurrent_encoder_and_a_few_thawed_words(place: Place, first: dict[str, Any]) -> None:
    result = place.run("model.encoder=gru", "phases.fine_tune.unfreeze={words: 5}", "promote=null")
    weights = exported(result)
    assert weights["word_vectors/trained"].shape == (5, texts.DIMENSIONS)
    assert "head_gru/gru_cell/kernel" in weights
    assert f"pooled {16 * texts.DIMENSIONS}" in place.stored()
    assert "word_vectors" in result["told"]


@pytest.mark.slow
def test_a_network_of_ones_own(place: Place, first: dict[str, Any], here: Thaw, tmp_path: Path) -> None:
    """From what is decoded for the run before."""
    texts.own_encoder(tmp_path / "own.keras", 16, 512)
    model = f"{{backbone: 'file://{tmp_path}/own.keras', max_tokens: 16, head: {{hidden: [16]}}}}"
    result = place.run(f"model={model}", "phases.fine_tune.unfreeze={match: [table, dense]}", "promote=null")
    assert "words" not in result
    keys = [key for key in all_texts() if split_of(key, Split()) == "test"]
    done = here(
        "predict", result["model"], *(f"{place.root}/source/{key}".removeprefix("file://") for key in keys), "--json"
    )
    assert done.returncode == 0, done.stderr
    right = [record["class"] == key.split("/")[0] for record, key in zip(json.loads(done.stdout), keys, strict=True)]
    assert sum(right) / len(keys) == pytest.approx(result["metrics"][result["kept"]]["accuracy"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"the 0.1 0.2 0.3\na 0.1 0.2\n", "line 2 has 2 numbers and the first 3: it is cut short"),
        (b"the 0.1 0.2\na 0.1 0.2 0.3\n", "line 2 has 3 numbers and the first 2: dimensions are mixed"),
    ],
)
def test_a_broken_file_of_vectors_ends_the_run_at_once(content: bytes, told: str, here: Thaw, tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    for key, text in texts.folder_of(40).items():
        source.write(key, text)
    (tmp_path / "vectors.txt.gz").write_bytes(content)
    (tmp_path / "job.yaml").write_text(JOB.format(root=f"file://{tmp_path}", layout=""))
    done = here("run", str(tmp_path / "job.yaml"))
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, ("npm", "apt-get", "dpkg-deb"))) or find_spec("sklearn") is None,
    reason="npm, apt-get, dpkg-deb and scikit-learn are needed",
)
def test_the_demo_on_real_vectors_and_real_texts(
    in_new_process: Thaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("http_proxy", raising=False)  # that of the tests on Ray leads nowhere
    done = in_new_process("demo", "--task", "text", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["classes"]) == 10
    whole, few = result["comparison"]
    for model in ("head", "fine_tune"):
        assert whole[model] > 2 * whole["majority"]
    assert max(few["head"], few["fine_tune"]) > few["tfidf"]
    assert 0 < result["words"]["rate"] < 0.2
    assert len(result["words"]["worst"]) == 10
