"""Predictions of an exported model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from job.config import Data
from job.data.forms import Form, form_described
from job.errors import DataError, JobError, ObjectMissing
from job.report.manifest import MANIFEST, download_files
from job.storage import Store, open_store, read_json, split_uri
from job.storage.scratch import scratch

BATCH = 32
MAX_PIXELS = Data.model_fields["max_pixels"].default


def predict(model: str, files: list[str]) -> Iterator[dict[str, Any]]:
    """One record a file, in their order: file, class, probabilities; or file, error where it is no image or text.

    `model` is the URI or path of an exported model (or of the run that has one), `files` are paths or URIs.
    """
    store = _model_store(model)
    with scratch() as folder:
        download_files(store, ("labels.json", "saved_model/"), Path(folder))
        labels = json.loads(Path(folder, "labels.json").read_text())
        form = form_described(labels, MAX_PIXELS)
        import tensorflow as tf

        serve = tf.saved_model.load(str(Path(folder, "saved_model"))).signatures["serving_default"]
        for start in range(0, len(files), BATCH):
            yield from _batch(serve, form, files[start : start + BATCH], labels["classes"])


def _batch(serve: Any, form: Form, files: list[str], classes: list[str]) -> list[dict[str, Any]]:
    import tensorflow as tf

    records = [_read(file, form) for file in files]
    encoded = [record["encoded"] for record in records if "encoded" in record]
    try:
        answers = iter(_serve(serve, encoded))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError):
        answers = iter([answer for one in encoded for answer in _serve_one(serve, one)])
    for record in records:
        if record.pop("encoded", None) is not None:
            answer = next(answers)
            if answer is None:
                record["error"] = form.broken
            else:
                record["class"] = answer[0]
                record["probabilities"] = dict(zip(classes, answer[1], strict=True))
    return records


def _serve(serve: Any, encoded: list[bytes]) -> list[tuple[str, list[float]] | None]:
    import tensorflow as tf

    if not encoded:
        return []
    (name,) = serve.structured_input_signature[1]
    answer = serve(**{name: tf.constant(encoded)})
    names = [name.decode() for name in answer["class"].numpy()]
    return list(zip(names, answer["probabilities"].numpy().tolist(), strict=True))


def _serve_one(serve: Any, encoded: bytes) -> list[tuple[str, list[float]] | None]:
    import tensorflow as tf

    try:
        return _serve(serve, [encoded])
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError):
        return [None]


def _read(file: str, form: Form) -> dict[str, Any]:
    import tensorflow as tf

    try:
        if "://" in file:
            root, name = split_uri(file)
            encoded = open_store(root).read(name)
        else:
            encoded = Path(file).read_bytes()
    except ObjectMissing:
        return {"file": file, "error": "no such object"}
    except OSError as error:
        return {"file": file, "error": str(error.strerror)}
    reason = form.inspect(encoded)
    if not reason and form.blank and not form.decode(tf.constant(encoded)).numpy().any():
        reason = form.blank
    return {"file": file, "error": reason} if reason else {"file": file, "encoded": encoded}


def _model_store(model: str) -> Store:
    if "://" not in model:
        model = f"file://{os.path.abspath(model)}"
    store = open_store(model)
    try:
        if result := read_json(store, "result.json"):  # of a run, which may have been copied here as a whole
            store = open_store(store.uri + result["model"].removeprefix(result["run"]))
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
