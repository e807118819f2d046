"""The extract stage: what is missing is decoded and run through the frozen network, once per example and view."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from job.config import GLOVE, Job
from job.data.snapshot import Snapshot, check_rejects
from job.data.source import open_source
from job.executors import Executor
from job.features.cache_plan import Plan, featurizers, input_featurizer
from job.features.dataset import Examples, read_examples, write_dataset
from job.features.decode import GONE
from job.features.extraction import Extraction
from job.features.run_words import Words, count_words, learn_vectors, note_words
from job.features.store import Featurizer, StoredFeatures, address_bytes, describe, known
from job.features.workload import missing, write_work
from job.run.run import Run

Say = Callable[..., None]
Reject = tuple[str, str, str]
"""Key, label and reason of an example that could not be decoded."""
Stored = list[tuple[Featurizer, StoredFeatures]]


def extract(run: Run, plan: Plan, executor: Executor, say: Say) -> list[Reject]:
    """Computes what is missing and writes down the run's data set; returns the rejects of decoding.

    Raises DataError where too much is rejected, and Overflow where `plan.dtype` is too small.
    """
    job, store = run.job, run.store
    examples = read_examples(store, run.snapshot, open_source(job).uri, job.data.is_packed)
    done = complete(run, examples, plan, executor, say)
    rejects, accepted = _rejects(examples, [*done.pooled, *done.inputs], done.gone)
    _check(rejects, run.snapshot, job)
    lines = [json.dumps({"key": key, "label": label, "reason": reason}) for key, label, reason in rejects]
    store.write(run.keys.rejects, ("\n".join(lines) + "\n").encode() if lines else b"")
    if done.words is not None:
        say("words", **note_words(run, done.words, examples))
    write_dataset(store, run.id, run.snapshot.classes, examples, accepted, done.pooled, done.inputs)
    return rejects


@dataclass(frozen=True)
class Complete:
    """The features of some examples, all that can be had."""

    pooled: Stored
    """What the head phase reads."""
    inputs: Stored
    """What fine-tuning reads."""
    gone: dict[str, str]
    """Why some examples are gone, by key."""
    words: Words | None
    """With glove: the words that occur."""


def complete(run: Run, examples: Examples, plan: Plan, executor: Executor, say: Say) -> Complete:
    """Computes the features that these examples lack. Raises Overflow."""
    job, store = run.job, run.store
    words, gone = None, dict[str, str]()
    if job.model.backbone == GLOVE:  # a text's words first: their vectors are the network
        wanted = [input_featurizer(job)]
        ((tokens, stored),), gone = _completed(run, examples, wanted, "words", executor, say)
        words = count_words(store, tokens, stored, examples)
        learn_vectors(job, store, run.base.weights_sha256, words, say)
    pooled, inputs = featurizers(job, run.base, plan)
    found, lost = _completed(run, examples, [*pooled, *inputs], "features", executor, say)
    return Complete(found[: len(pooled)], found[len(pooled) :], gone | lost, words)


def _completed(
    run: Run, examples: Examples, wanted: list[Featurizer], what: str, executor: Executor, say: Say
) -> tuple[Stored, dict[str, str]]:
    found = [(featurizer, known(run.store, featurizer)) for featurizer in wanted]
    needs = missing(examples, found)
    gone: dict[str, str] = {}
    if needs.any():
        lacking = int(needs.any(axis=1).sum())
        figures = {"what": what, "computed": lacking, "stored": len(needs) - lacking}
        say("stage", text=f"computing the {what} of {lacking} examples; {len(needs) - lacking} have theirs", **figures)
        gone = _compute(run, examples, needs, found, executor, say)
        found = [(featurizer, known(run.store, featurizer, before)) for featurizer, before in found]
    else:
        text = f"the {what} of all {len(needs)} examples are stored already"
        say("note", text=text, what=what, computed=0, stored=len(needs))
    return found, gone


def _compute(
    run: Run, examples: Examples, needs: np.ndarray, found: Stored, executor: Executor, say: Say
) -> dict[str, str]:
    """Computes what the examples lack; returns why some of them are gone, by key."""
    wanted = [featurizer for featurizer, _ in found]
    for featurizer in wanted:
        describe(run.store, featurizer)
    chunks = write_work(run.store, run.id, examples, needs, wanted, run.job.data.is_packed)
    work = Extraction(run.job, run.id, run.base, wanted, chunks, run.store)
    gone: dict[str, str] = {}
    done, of, rate = 0, int(needs.any(axis=1).sum()), _Rate()
    say("extract", done=done, of=of, rate=None)  # the processes take a while to start
    for extracted in executor.extract(work, say):
        gone |= extracted.gone
        done += extracted.done
        say("extract", done=done, of=of, rate=rate(done))
    run.store.delete(run.keys.work)
    return gone


class _Rate:
    """Examples a second: since the first were done, which does not count the start of the processes."""

    def __init__(self) -> None:
        self._started, self._first = time.monotonic(), 0

    def __call__(self, done: int) -> float | None:
        """None until there is something to go by."""
        if self._first:
            return (done - self._first) / (time.monotonic() - self._started)
        self._started, self._first = time.monotonic(), done
        return None


def _rejects(
    examples: Examples, found: list[tuple[Featurizer, StoredFeatures]], gone: dict[str, str]
) -> tuple[list[Reject], np.ndarray]:
    """The examples without features, with their reasons by ascending row; and which have them, bool [n]."""
    accepted = np.ones(len(examples.rows), np.bool_)
    reasons: dict[bytes, str] = {}
    for featurizer, stored in found:
        reasons |= stored.rejects
        if not featurizer.view:
            accepted &= stored.find(examples.addresses)[0] >= 0
    lacking = np.flatnonzero(~accepted)
    lacking = lacking[np.argsort(examples.rows[lacking])]
    table = examples.table.select(["key", "label"]).take(lacking)
    addresses = address_bytes(examples.addresses[lacking])
    rejects = [
        (key, label, reasons.get(address) or gone.get(key, GONE))
        for key, label, address in zip(table["key"].to_pylist(), table["label"].to_pylist(), addresses, strict=True)
    ]
    return rejects, accepted


def _check(rejects: list[Reject], snapshot: Snapshot, job: Job) -> None:
    """Rejects of the listing and of decoding count together."""
    per_class = Counter(snapshot.rejected_per_class) + Counter(label for _, label, _ in rejects)
    samples = {(label, reason): key for key, label, reason in reversed(rejects)}
    check_rejects(dict(per_class), samples, snapshot, job.data)
