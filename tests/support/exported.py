"""A finished run in a store of this machine, as `thaw run` leaves it, without Ray: pictures or texts, a model that was
trained for a moment, and what it was exported as.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from job.config import Job
from job.config.jobfile import parse_job
from job.data.forms import form_of
from job.data.snapshot import Snapshot, take_snapshot
from job.export.checksums import upload_files
from job.export.exporter import write_model
from job.features.cache_plan import input_featurizer
from job.features.dataset import Examples, load_dataset, read_examples, write_dataset
from job.features.run_words import count_words, note_words
from job.features.store import Featurizer, stored_features
from job.model.heads import build_head
from job.model.network import build_network
from job.model.networks import base_of_run
from job.run.outcome import RunResult
from job.run.run import Run
from job.run.word_vectors import learn_vectors, resolve_vectors
from job.storage import Store, open_store
from job.storage.documents import read_document
from job.storage.scratch import scratch
from support import images, texts
from support.events import Heard
from support.networks import own_base
from support.results import write_result
from support.stored import write_part

RUN = "tiny-0123456789ab"
POOLED = Featurizer("pooled", 0, "float32", (1,), {"made by": "a test"})
PICTURES = """
name: tiny
data: {{source: 'file://{folder}/source/'}}
store: 'file://{folder}/store/'
model: {{backbone: 'file://{folder}/own.keras', image_size: 32, head: {{hidden: [16]}}}}
"""
TEXTS = """
name: tiny
task: text
data: {{source: 'file://{folder}/source/'}}
store: 'file://{folder}/store/'
model: {{backbone: glove, weights: '{folder}/vectors.txt', max_tokens: 12, head: {{hidden: [16]}}}}
"""


@dataclass(frozen=True)
class Finished:
    job: Job
    store: Store
    model: Path
    """The folder of the exported model."""
    logits: keras.Model
    examples: Examples
    encoded: list[bytes]
    """Of each example, in their order."""

    @property
    def uri(self) -> str:
        return f"{self.store.uri}runs/{RUN}/"

    @property
    def result(self) -> RunResult:
        result = read_document(self.store, f"runs/{RUN}/result.json", RunResult)
        assert result is not None
        return result

    def probabilities(self, encoded: list[bytes]) -> np.ndarray:
        """float32 [n, classes], by the network that was trained."""
        decoded = np.stack([form_of(self.job).read(one) for one in encoded])
        return tf.nn.softmax(self.logits(decoded.astype(self.logits.input.dtype), training=False)).numpy()


def finished_pictures(folder: Path, examples: int = 131, *settings: str) -> Finished:
    own_base(folder / "own.keras")
    job = parse_job(PICTURES.format(folder=folder), settings)
    base = keras.saving.load_model(folder / "own.keras")
    image = keras.Input([32, 32, 3], name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(base(image))
    store, snapshot, found, encoded = _filled(folder, job, images.folder_of(examples))
    return _exported(job, store, snapshot, found, encoded, keras.Model(image, pooled))


def finished_texts(folder: Path, examples: int = 131, *settings: str) -> Finished:
    """The ids of their words are stored, as they always are; the words' vectors train."""
    (folder / "vectors.txt").write_bytes(texts.vectors())
    job = parse_job(TEXTS.format(folder=folder), settings)
    store, snapshot, found, encoded = _filled(folder, job, texts.folder_of(examples))
    featurizer = input_featurizer(job)
    ids = np.stack([form_of(job).read(one) for one in encoded])
    write_part(store, featurizer, found.addresses, values=ids)
    words = count_words(store, featurizer, stored_features(store, featurizer), examples=found)
    base = resolve_vectors(job, store, Heard())
    learn_vectors(job, store, base.weights_sha256, ids=words.ids, emit=Heard())
    note_words(Run(job, RUN, store, snapshot, base), words, found)
    return _exported(job, store, snapshot, found, encoded, base_of_run(job, store, RUN, resolved=base))


def _filled(folder: Path, job: Job, objects: dict[str, bytes]) -> tuple[Store, Snapshot, Examples, list[bytes]]:
    source, store = open_store(job.data.source), open_store(job.store)
    for key, content in objects.items():
        source.write(key, content)
    (folder / "store").mkdir()
    snapshot = take_snapshot(job.data, source, store, task=job.task)
    found = read_examples(store, snapshot, source.uri, packed=False)
    write_part(store, POOLED, found.addresses, values=np.zeros([len(found.rows), 1], np.float32))
    accepted = np.ones(len(found.rows), np.bool_)
    write_dataset(
        store,
        RUN,
        snapshot.classes,
        examples=found,
        accepted=accepted,
        pooled=[(POOLED, stored_features(store, POOLED))],
        inputs=[],
    )
    return store, snapshot, found, [objects[key] for key in found.table["key"].to_pylist()]


def _exported(
    job: Job, store: Store, snapshot: Snapshot, found: Examples, encoded: list[bytes], base: keras.Model
) -> Finished:
    model, classes = job.model, snapshot.classes
    head = build_head(
        base.output_shape[-1], model.head, len(classes), seed=0, encoder=model.encoder, words=model.max_tokens
    )
    logits = build_network(base, head).model
    data = load_dataset(store, RUN, classes, class_weights=None)
    inputs = np.stack([form_of(job).read(one) for one in encoded]).astype(logits.input.dtype)
    logits.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    train = data.splits["train"]
    logits.fit(inputs[train], data.labels[train], batch_size=16, epochs=6, verbose=0)
    with scratch() as folder:
        write_model(job, logits, classes, metrics={}, card=None, folder=Path(folder))
        upload_files(store, f"runs/{RUN}/model/1/", Path(folder))
    store.write(f"runs/{RUN}/job.json", job.model_dump_json(by_alias=True).encode())
    write_result(store, RUN, snapshot=snapshot.id, classes=classes)
    return Finished(job, store, Path(store.uri.removeprefix("file://"), f"runs/{RUN}/model/1"), logits, found, encoded)
