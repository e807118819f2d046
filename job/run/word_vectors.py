"""The job's file of pretrained word vectors: reads the vectors of words into the store, and the words of ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from job.config import Job, Weights
from job.errors import JobError, StorageError
from job.libraries import import_tensorflow
from job.model.resolved import ResolvedBase, known_base, record_base, weights_request
from job.run.events import Announced, Emit, Noted
from job.storage import Store, file_sha256, open_store, split_uri
from job.storage.scratch import scratch
from job.text.vocabulary import keep_vectors, kept_vectors


def resolve_vectors(job: Job, store: Store, emit: Emit) -> ResolvedBase:
    """Resolves the job's file of vectors to its content, by reading it once. Raises JobError, StorageError."""
    request = weights_request(job.model, job.train.seed)
    if known := known_base(store, request):
        return known
    weights = vectors_named(job)
    emit(Noted(f"reading {weights.uri}"))
    with _downloaded(weights.uri) as path:
        resolved = ResolvedBase(file_sha256(path))
        if weights.sha256 not in (None, resolved.weights_sha256):
            raise JobError(
                f"model.weights: {weights.uri} has sha256 {resolved.weights_sha256}, and the job file says "
                f"{weights.sha256}: it is not the file meant."
            )
        _read(store, path, weights.uri, sha256=resolved.weights_sha256, ids=np.empty(0, np.int64), emit=emit)
    record_base(store, request, resolved)
    return resolved


def learn_vectors(job: Job, store: Store, sha256: str, *, ids: np.ndarray, emit: Emit) -> None:
    """Stores the vectors of those words (ids, int64 [w], ascending) that were not looked up in the file before."""
    missing = np.setdiff1d(ids, kept_vectors(store, sha256)[0], assume_unique=True)
    if not len(missing):
        return
    uri = vectors_named(job).uri
    emit(Announced(f"looking for the vectors of {len(missing)} words in {uri}"))
    with _downloaded(uri) as path:
        if file_sha256(path) != sha256:
            raise StorageError(f"{uri} was written since this run was named: run again.")
        _read(store, path, uri, sha256=sha256, ids=missing, emit=emit)


def spell(job: Job, ids: np.ndarray) -> list[str]:
    """The words of these ids, in their order, from the file of vectors. Raises JobError, StorageError."""
    from job.text.vectors import words_of_ids

    uri = vectors_named(job).uri
    with _downloaded(uri) as path:
        words = words_of_ids(path, ids, uri)
    missing = len(set(ids.tolist()) - words.keys())
    if missing:
        raise StorageError(
            f"model.weights: {uri} was written since the run: it lacks {missing} of its {len(ids)} words. Put the file "
            "back that the run was made with."
        )
    return [words[id] for id in ids.tolist()]


def vectors_named(job: Job) -> Weights:
    weights = job.model.weights_source
    assert isinstance(weights, Weights)
    return weights


def _read(store: Store, path: str, uri: str, *, sha256: str, ids: np.ndarray, emit: Emit) -> None:
    from job.text.vectors import read_vectors

    import_tensorflow()
    vectors = read_vectors(path, ids, uri)
    keep_vectors(store, sha256, ids, vectors=vectors)
    skipped = "".join(f", {count} lines skipped ({why})" for why, count in vectors.skipped.items())
    emit(Noted(f"{vectors.words} vectors of {vectors.dimensions} dimensions, {len(vectors.ids)} kept{skipped}"))


@contextmanager
def _downloaded(uri: str) -> Iterator[str]:
    """Downloads the file; yields the path of the local copy."""
    root, name = split_uri(uri)
    with scratch() as folder:
        path = str(Path(folder, "vectors"))
        open_store(root).download(name, path)
        yield path
