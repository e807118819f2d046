"""Predicts with an exported model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from job.config import Data
from job.data.forms import Form, form_described
from job.data.pictures import Unreadable
from job.errors import DataError, JobError, ObjectMissing
from job.export.checksums import MANIFEST, download_files
from job.libraries import import_tensorflow
from job.run.outcome import RunResult
from job.storage import Store, open_store, split_uri
from job.storage.documents import read_document
from job.storage.scratch import scratch

BATCH = 32
MAX_PIXELS = Data.model_fields["max_pixels"].default


class Predictor:
    """A loaded exported model. Several threads may use it."""

    def __init__(self, folder: Path) -> None:
        import_tensorflow()
        import tensorflow as tf

        labels = json.loads((folder / "labels.json").read_text())
        self.task: str = labels.get("task", "image")
        self.classes: list[str] = labels["classes"]
        self._form: Form = form_described(labels, MAX_PIXELS)
        self._model = tf.saved_model.load(str(folder / "saved_model"))  # it holds what the signature's function needs
        self._serve = self._model.signatures["serving_default"]
        self._undecodable = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)

    def answers(self, encoded: Sequence[bytes]) -> list[dict[str, Any]]:
        """The answer to each image or text, in order: {class, probabilities}, or {error} where it can't be decoded."""
        plain = [self._plain(content) for content in encoded]
        taken = [content for content in plain if isinstance(content, bytes)]
        try:
            predictions = iter(self._ask(taken))
        except self._undecodable:
            predictions = iter([self._ask_alone(content) for content in taken])
        return [{"error": content} if isinstance(content, str) else next(predictions) for content in plain]

    def _plain(self, encoded: bytes) -> bytes | str:
        """The bytes for the model to decode, or the reason (str) why the content can't be used."""
        try:
            if self._form.blank and not self._form.read(encoded).any():
                return self._form.blank
            return self._form.plain(encoded)
        except Unreadable as error:
            return str(error)

    def _ask(self, encoded: list[bytes]) -> list[dict[str, Any]]:
        import tensorflow as tf

        if not encoded:
            return []
        (name,) = self._serve.structured_input_signature[1]
        answer = self._serve(**{name: tf.constant(encoded)})
        names, chances = answer["class"].numpy(), answer["probabilities"].numpy().tolist()
        return [
            {"class": name.decode(), "probabilities": dict(zip(self.classes, row, strict=True))}
            for name, row in zip(names, chances, strict=True)
        ]

    def _ask_alone(self, encoded: bytes) -> dict[str, Any]:
        try:
            return self._ask([encoded])[0]
        except self._undecodable:
            return {"error": self._form.broken}


@contextmanager
def loaded(model: str) -> Iterator[Predictor]:
    """Loads the exported model at a URI or path (of the model, or of its run). Raises JobError, StorageError."""
    store = _model_store(model)
    with scratch() as folder:
        download_files(store, ("labels.json", "saved_model/"), Path(folder))
        yield Predictor(Path(folder))


def predict(model: str, files: list[str]) -> Iterator[dict[str, Any]]:
    """Yields a record for each file, in order: file, class, probabilities; or file, error where it can't be read.

    `model` is that of `loaded`; `files` are paths or URIs.
    """
    with loaded(model) as predictor:
        for start in range(0, len(files), BATCH):
            contents = [(file, *_read(file)) for file in files[start : start + BATCH]]
            predictions = iter(predictor.answers([content for _, content, _ in contents if content is not None]))
            for file, content, error in contents:
                yield {"file": file, **({"error": error} if content is None else next(predictions))}


def _read(file: str) -> tuple[bytes | None, str]:
    """The content of the file, or None and the reason why it can't be read."""
    try:
        if "://" in file:
            root, name = split_uri(file)
            return open_store(root).read(name), ""
        return Path(file).read_bytes(), ""
    except ObjectMissing:
        return None, "no such object"
    except OSError as error:
        return None, str(error.strerror)


def _model_store(model: str) -> Store:
    if "://" not in model:
        model = f"file://{os.path.abspath(model)}"
    store = open_store(model)
    try:
        result = read_document(store, "result.json", RunResult)  # of a run
        if result is not None and result.model is not None:
            store = open_store(result.model_of(store.uri))
        if store.stat(MANIFEST) is not None:
            return store
    except ObjectMissing:
        pass
    raise JobError(f"{model} is no exported model: it has no {MANIFEST}. Give the model that `thaw run` printed.")


def check_all_answered(records: list[dict[str, Any]]) -> None:
    """Raises DataError where a file had no answer."""
    failed = [record for record in records if "error" in record]
    if failed:
        first = failed[0]
        raise DataError(
            f"{len(failed)} of {len(records)} files got no answer; the first: {first['file']}: {first['error']}."
        )
