"""A finished run's model in further formats: those that its job asks for, and those that are asked for afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from job.config import Job
from job.data.snapshot import stored_snapshot
from job.errors import JobError, ObjectMissing, ThawError
from job.export.checksums import MANIFEST, download_files, upload_files
from job.export.formats import check_formats
from job.libraries import import_tensorflow, no_stderr
from job.run.events import Announced, Emit, Noted, Warned
from job.run.run import open_run
from job.run.word_vectors import spell
from job.storage import Store, open_store, read_json
from job.storage.runs import RunKeys, run_uri
from job.storage.scratch import scratch

if TYPE_CHECKING:
    from job.export.formats.subject import Subject

CHECKED = 128
"""Examples that a file is checked on: of the validation split, and, where that has fewer, of the test split."""
LEAST = 32
"""So many of them must be there, or all that the run has."""
REPRESENTATIVE = 100
"""Examples of the train split that the ranges of int8 are measured on."""


def with_formats(
    job: Job, store: Store, run: str, result: dict[str, Any], emit: Emit, debug: bool = False
) -> dict[str, Any]:
    """The result with `formats`: by name the URI, or None where it can't be had.

    A format that fails costs the run nothing: its model is in use by now, and trying again would end the same.
    """
    if not job.export.formats or result["model"] is None:
        return result
    exports = Exports(job, store, run, result, emit, debug)
    made: dict[str, str | None] = {}
    for name in dict.fromkeys(job.export.formats):
        try:
            made[name] = exports.keep(name)
        except ThawError as error:
            made[name] = None
            emit(Warned(f"{error} The run itself is complete; `thaw export` tries it again."))
    return {**result, "formats": made}


def export_run(uri: str, formats: Sequence[str], out: str | None, emit: Emit, debug: bool = False) -> dict[str, str]:
    """Writes these formats of a finished run beside its model, or to the folder (or URI) `out`; their URIs by name.

    Raises JobError, DataError, StorageError.
    """
    check_formats(formats)
    store, run = open_run(uri)
    result, described = (read_json(store, RunKeys(run).named(name)) for name in ("result", "job"))
    if result is None or result.get("model") is None or described is None:
        raise JobError(f"{run_uri(store, run)} has no finished model: run it to its end first.")
    try:
        job = Job.model_validate(described)
    except ValidationError as error:
        raise JobError(f"{store.uri}{RunKeys(run).job} is that of another version of Thaw.") from error
    exports = Exports(job, store, run, result, emit, debug)
    if out is None:
        return {name: exports.keep(name) for name in dict.fromkeys(formats)}
    target = open_store(out if "://" in out else f"file://{os.path.abspath(out)}")
    return {name: exports.copy(name, target) for name in dict.fromkeys(formats)}


class Exports:
    """What is made once for all formats: the network, its examples, and what it answers to them."""

    def __init__(self, job: Job, store: Store, run: str, result: dict[str, Any], emit: Emit, debug: bool) -> None:
        self._job, self._store, self._run, self._emit = job, store, run, emit
        self._snapshot = result["snapshot"]
        # The run may have been copied as a whole: its result says where it was made.
        self._model = open_store(run_uri(store, run) + result["model"].removeprefix(result["run"]))
        self._quiet = nullcontext if debug else no_stderr

    def keep(self, name: str) -> str:
        """Beside the run's model; nothing is left to do where it is there already."""
        if self._model.stat(f"{name}/{MANIFEST}") is None:
            with scratch() as folder:
                self._make(name, Path(folder))
                upload_files(self._model, f"{name}/", Path(folder))
        return f"{self._model.uri}{name}/"

    def copy(self, name: str, target: Store) -> str:
        """To another place: what is beside the model already, or made for this."""
        with scratch() as folder:
            if self._model.stat(f"{name}/{MANIFEST}") is None:
                self._make(name, Path(folder))
            else:
                download_files(open_store(f"{self._model.uri}{name}/"), ("",), Path(folder))
            upload_files(target, f"{name}/", Path(folder))
        return f"{target.uri}{name}/"

    def _make(self, name: str, folder: Path) -> None:
        from job.export.formats import write_format

        self._emit(Announced(f"exporting as {name}"))
        subject = self._subject
        with scratch() as labels, self._quiet():
            download_files(self._model, ("labels.json",), Path(labels))
            found = write_format(name, subject, Path(labels, "labels.json"), folder)
        self._emit(
            Noted(
                f"{name}: {found['same_class']:.1%} of {found['examples']} examples keep their class, "
                f"accuracy {found['accuracy']:.4f} (Keras: {found['keras_accuracy']:.4f}), probabilities differ "
                f"by up to {found['largest_difference']:.2g}"
            )
        )

    @cached_property
    def _subject(self) -> Subject:
        import_tensorflow()
        import keras

        from job.export.formats.subject import make_subject
        from job.export.samples import Sampler
        from job.model import words  # noqa: F401 - registers the layer that model.keras may hold

        snapshot = stored_snapshot(self._store, self._snapshot)
        if snapshot is None:
            raise ObjectMissing(f"{self._store.uri}snapshots/{self._snapshot}.json is gone: run again with --new.")
        sampler = Sampler(self._job, self._store, self._run, snapshot)
        checked = sampler.take(["validation", "test"], CHECKED, LEAST)
        representative = sampler.take(["train"], REPRESENTATIVE, LEAST)
        with scratch() as folder:
            download_files(self._model, ("model.keras",), Path(folder))
            with self._quiet():
                model = keras.saving.load_model(Path(folder, "model.keras"), compile=False, safe_mode=True)
                return make_subject(model, checked, representative, lambda ids: spell(self._job, ids))
