"""The extract stage: computes missing features by the frozen network, once per example and view."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from job.config import GLOVE, Job
from job.data.snapshot import Snapshot, check_rejects
from job.data.source import open_source
from job.features.cache_plan import Plan, featurizers, input_featurizer, write_plan
from job.features.dataset import Examples, read_examples, write_dataset
from job.features.decode import GONE
from job.features.extraction import Extraction, Extractor
from job.features.featurize import Overflow
from job.features.run_words import Words, count_words, note_words
from job.features.store import Featurizer, StoredFeatures, address_bytes, describe, stored_features
from job.features.workload import missing, write_work
from job.run.events import Emit, ExamplesRejected, FeaturesComputed, FeaturesCounted, StageStarted, Warned, WordsCounted
from job.run.run import Run
from job.run.unfinished import forget_unfinished
from job.run.word_vectors import learn_vectors

Reject = tuple[str, str, str]
"""Key, label and reason of an example that could not be decoded."""
UNFINISHED = 3600.0
"""Seconds after which an unfinished upload of a feature counts as abandoned."""
AT_ONCE = 0.25
"""Seconds in which files that are stored side by side are done."""
Stored = list[tuple[Featurizer, StoredFeatures]]


def complete_features(run: Run, plan: Plan, executor: Extractor, *, emit: Emit) -> Plan:
    """Computes all features of the run, and writes its data set. Returns the plan, whose dtype is bfloat16 where
    float16 was too small. Raises DataError where too much is rejected.
    """
    emit(StageStarted("features", workers=executor.featurizers))
    if run.store.stat(run.keys.dataset) is not None:
        return plan
    forget_unfinished(run.store, "features/", UNFINISHED, emit=emit)
    try:
        rejects = extract(run, plan, executor, emit=emit)
    except Overflow as error:
        emit(Warned(f"{error}: they are stored as bfloat16"))
        plan = replace(plan, dtype="bfloat16")
        write_plan(run.store, run.id, plan)
        rejects = extract(run, plan, executor, emit=emit)
    listed = run.snapshot.rejects
    if total := sum(listed.values()) + len(rejects):
        emit(ExamplesRejected(total, listed, [f"{key}: {reason}" for key, _, reason in rejects[:3]]))
    return plan


def extract(run: Run, plan: Plan, executor: Extractor, *, emit: Emit) -> list[Reject]:
    """Computes the missing features and writes the run's data set; returns the rejects of decoding.

    Raises DataError where too much is rejected, and Overflow where `plan.dtype` is too small.
    """
    job, store = run.job, run.store
    examples = read_examples(store, run.snapshot, open_source(job).uri, packed=job.data.is_packed)
    done = complete(run, examples, plan, executor=executor, emit=emit)
    rejects, accepted = _rejects(examples, [*done.pooled, *done.inputs], done.gone)
    _check(rejects, run.snapshot, job)
    lines = [json.dumps({"key": key, "label": label, "reason": reason}) for key, label, reason in rejects]
    store.write(run.keys.rejects, ("\n".join(lines) + "\n").encode() if lines else b"")
    if done.words is not None:
        emit(WordsCounted(note_words(run, done.words, examples)))
    write_dataset(
        store,
        run.id,
        run.snapshot.classes,
        examples=examples,
        accepted=accepted,
        pooled=done.pooled,
        inputs=done.inputs,
    )
    return rejects


@dataclass(frozen=True)
class Complete:
    """The stored features of examples, after all that can be computed were."""

    pooled: Stored
    """The features that the head phase reads."""
    inputs: Stored
    """The features that fine-tuning reads."""
    gone: dict[str, str]
    """The reasons why examples are gone, by key."""
    words: Words | None
    """With glove, the words that occur; else None."""


def complete(run: Run, examples: Examples, plan: Plan, *, executor: Extractor, emit: Emit) -> Complete:
    """Computes the features that these examples lack. Raises Overflow."""
    job, store = run.job, run.store
    words, gone = None, dict[str, str]()
    if job.model.backbone == GLOVE:  # the words of the texts come first: their vectors are the network
        tokens_only = [input_featurizer(job)]
        ((tokens, stored),), gone = _completed(run, examples, tokens_only, what="words", executor=executor, emit=emit)
        words = count_words(store, tokens, stored, examples=examples)
        learn_vectors(job, store, run.base.weights_sha256, ids=words.ids, emit=emit)
    pooled, inputs = featurizers(job, run.base, plan)
    stored_sets, lost = _completed(run, examples, [*pooled, *inputs], what="features", executor=executor, emit=emit)
    return Complete(stored_sets[: len(pooled)], stored_sets[len(pooled) :], gone | lost, words)


def _completed(
    run: Run, examples: Examples, featurizers: list[Featurizer], *, what: str, executor: Extractor, emit: Emit
) -> tuple[Stored, dict[str, str]]:
    stored_sets = [(featurizer, stored_features(run.store, featurizer)) for featurizer in featurizers]
    needs = missing(examples, stored_sets)
    lacking = int(needs.any(axis=1).sum())
    emit(FeaturesCounted(what, lacking, len(needs) - lacking))
    gone: dict[str, str] = {}
    if lacking:
        gone = _compute(run, examples, needs, stored_sets=stored_sets, executor=executor, emit=emit)
        stored_sets = [
            (featurizer, stored_features(run.store, featurizer, before)) for featurizer, before in stored_sets
        ]
    return stored_sets, gone


def _compute(
    run: Run, examples: Examples, needs: np.ndarray, *, stored_sets: Stored, executor: Extractor, emit: Emit
) -> dict[str, str]:
    """Computes the features that the examples lack. Returns the reasons why some of them are gone, by key."""
    featurizers = [featurizer for featurizer, _ in stored_sets]
    for featurizer in featurizers:
        describe(run.store, featurizer)
    chunks = write_work(
        run.store, run.id, examples, needs=needs, featurizers=featurizers, packed=run.job.data.is_packed
    )
    work = Extraction(run.job, run.id, run.base, featurizers, chunks, run.store)
    gone: dict[str, str] = {}
    done, of, rate = 0, int(needs.any(axis=1).sum()), _Rate()
    emit(FeaturesComputed(done=done, of=of, rate=None))  # the processes take a while to start
    for extracted in executor.extract(work, emit):
        gone |= extracted.gone
        done += extracted.done
        emit(FeaturesComputed(done=done, of=of, rate=rate(done)))
    run.store.delete(run.keys.work)
    return gone


class _Rate:
    """Examples per second, measured from the first ones on, so that the start of processes does not count."""

    def __init__(self) -> None:
        self._started, self._first = time.monotonic(), 0

    def __call__(self, done: int) -> float | None:
        """The rate after `done` examples; None at the first call with examples, and until it can be told from those
        that come at the same time.
        """
        if not self._first:
            self._started, self._first = time.monotonic(), done
        seconds = time.monotonic() - self._started
        return (done - self._first) / seconds if seconds > AT_ONCE else None


def _rejects(
    examples: Examples, stored_sets: list[tuple[Featurizer, StoredFeatures]], gone: dict[str, str]
) -> tuple[list[Reject], np.ndarray]:
    """The examples without features, with reasons, by ascending row; and which examples have features, bool [n]."""
    accepted = np.ones(len(examples.rows), np.bool_)
    reasons: dict[bytes, str] = {}
    for featurizer, stored in stored_sets:
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
    """Raises DataError where the rejects of listing and decoding together are too many."""
    per_class = Counter(snapshot.rejected_per_class) + Counter(label for _, label, _ in rejects)
    samples = {(label, reason): key for key, label, reason in reversed(rejects)}
    check_rejects(dict(per_class), samples, snapshot, data=job.data)
