"""Exports a finished run's model in further formats: those of its job file, and those of `thaw export`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from job.config import Job
from job.data.snapshot import stored_snapshot
from job.errors import JobError, ObjectMissing, ThawError
from job.export.checksums import MANIFEST, download_files, upload_files
from job.export.formats import check_formats
from job.libraries import import_tensorflow, no_stderr
from job.run.events import Announced, Emit, Noted, Warned
from job.run.outcome import RunResult
from job.run.run import open_run, read_job
from job.run.word_vectors import spell
from job.storage import Store, open_store
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys, run_uri
from job.storage.scratch import scratch

if TYPE_CHECKING:
    from job.export.formats.subject import Subject

CHECKED = 128
"""Examples for the check of a file, from the validation split, and from the test split where that has too few."""
LEAST = 32
"""The least number of these that can still be read, or all where the run has fewer."""
REPRESENTATIVE = 100
"""Examples of the train split for the ranges of int8."""


def export_formats(
    job: Job, store: Store, run: str, *, result: RunResult, emit: Emit, debug: bool = False
) -> dict[str, str | None] | None:
    """Exports the model in the formats of the job file. Returns the URI of each by its name, None for one that failed;
    None where there is none, or no model.

    A failure is only a warning: the model is in use by now, and a repeated run would fail in the same way.
    """
    if not job.export.formats or result.model is None:
        return None
    exports = Exports(job, store, run, result=result, emit=emit, debug=debug)
    uris: dict[str, str | None] = {}
    for name in dict.fromkeys(job.export.formats):
        try:
            uris[name] = exports.keep(name)
        except ThawError as error:
            uris[name] = None
            emit(Warned(f"{error} The run itself is complete; `thaw export` tries it again."))
    return uris


def export_run(uri: str, formats: Sequence[str], out: str | None, *, emit: Emit, debug: bool = False) -> dict[str, str]:
    """Writes these formats of a finished run beside its model, or to the folder (or URI) `out`. Returns their URIs by
    name. Raises JobError, DataError, StorageError.
    """
    check_formats(formats)
    store, run = open_run(uri)
    result, job = read_document(store, RunKeys(run).result, RunResult), read_job(store, run)
    if result is None or result.model is None or job is None:
        raise JobError(f"{run_uri(store, run)} has no finished model: run it to its end first.")
    exports = Exports(job, store, run, result=result, emit=emit, debug=debug)
    if out is None:
        return {name: exports.keep(name) for name in dict.fromkeys(formats)}
    target = open_store(out if "://" in out else f"file://{os.path.abspath(out)}")
    return {name: exports.copy(name, target) for name in dict.fromkeys(formats)}


class Exports:
    """Exports formats of one run. The network, its examples and its answers are prepared once for all of them."""

    def __init__(self, job: Job, store: Store, run: str, *, result: RunResult, emit: Emit, debug: bool) -> None:
        self._job, self._store, self._run, self._emit = job, store, run, emit
        self._snapshot, self._model = result.snapshot, open_store(result.model_of(run_uri(store, run)))
        self._quiet = nullcontext if debug else no_stderr

    def keep(self, name: str) -> str:
        """Writes the format beside the run's model, unless it is there already; returns its URI."""
        if self._model.stat(f"{name}/{MANIFEST}") is None:
            with scratch() as folder:
                self._make(name, Path(folder))
                upload_files(self._model, f"{name}/", Path(folder))
        return f"{self._model.uri}{name}/"

    def copy(self, name: str, target: Store) -> str:
        """Writes the format to `target`, as a copy where it is beside the model already; returns its URI."""
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
            agreement = write_format(name, subject, Path(labels, "labels.json"), folder=folder)
        self._emit(
            Noted(
                f"{name}: {agreement['same_class']:.1%} of {agreement['examples']} examples keep their class, "
                f"accuracy {agreement['accuracy']:.4f} (Keras: {agreement['keras_accuracy']:.4f}), probabilities "
                f"differ by up to {agreement['largest_difference']:.2g}"
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
        sampler = Sampler(self._job, self._store, self._run, snapshot=snapshot)
        checked = sampler.take(["validation", "test"], CHECKED, LEAST)
        representative = sampler.take(["train"], REPRESENTATIVE, LEAST)
        with scratch() as folder:
            download_files(self._model, ("model.keras",), Path(folder))
            with self._quiet():
                model = keras.saving.load_model(Path(folder, "model.keras"), compile=False, safe_mode=True)
                return make_subject(model, checked, representative, words=lambda ids: spell(self._job, ids))
