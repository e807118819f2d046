"""The retrain policy (`retrain_when` of the job file): whether a run is worth its price where a model is in use.

runs/<run>/decision.json   {train, reason, new_examples, new_classes, p_value, current}
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job.config import Job
from job.data.snapshot import Snapshot, read_snapshot, stored_snapshot
from job.features.dataset import FeatureSet, load_dataset
from job.features.store import read_stored
from job.registry.current import read_current
from job.registry.shift import shift_p_value
from job.run.events import Announced, Emit, StageStarted
from job.run.outcome import Decision, Metrics, RunOutcome, RunResult
from job.run.run import Run
from job.run.state import checkpoints_of
from job.storage import Store
from job.storage.documents import read_document, write_document
from job.storage.run_keys import RunKeys

MOST = 1000
"""The most examples of each side in the test for a shift."""


def initial_decision(run: Run, emit: Emit) -> Decision:
    """The decision before features are computed. A run that has begun goes on."""
    stored = recorded(run.store, run.id)
    if run.job.retrain_when is None or (stored and stored.train) or checkpoints_of(run.store, run.id):
        return Decision(True, "")
    return _announced(run, decide(run.job, run.store, run.snapshot), emit)


def final_decision(run: Run, decision: Decision, emit: Emit) -> Decision:
    """The decision after features are computed: completed where it depends on them, else unchanged."""
    if decision.train is not None:
        return decision
    emit(StageStarted("comparing", "comparing the features of the new examples with those of the others"))
    return _announced(run, decide_by_features(run, decision), emit)


def untrained(run: Run, decision: Decision, emit: Emit) -> RunOutcome:
    """The outcome of a run that is not trained; nothing is written."""
    emit(Announced("nothing is trained (--set retrain_when=null trains nevertheless)"))
    no_metrics: dict[str, Metrics | None] = {"head": None, "fine_tune": None}
    result = RunResult(run.uri, run.snapshot.id, "not worth it", no_metrics, run.snapshot.classes, model=None)
    return RunOutcome(result, decision=decision)


def _announced(run: Run, decision: Decision, emit: Emit) -> Decision:
    """Announces the decision, and stores it unless it depends on features."""
    if decision.train is not None:
        record(run.store, run.id, decision)
    emit(Announced(f"train? {decision.reason}"))
    return decision


def decide(job: Job, store: Store, snapshot: Snapshot) -> Decision:
    """The decision from the listings alone, without TensorFlow and Ray."""
    current = read_current(store, job.name)
    if current is None:
        return Decision(True, "no model is in use so far", snapshot.examples)
    before = stored_snapshot(store, current.entry.snapshot)
    if before is None:
        reason = f"the snapshot of the model in use ({current.run}) is gone"
        return Decision(True, reason, snapshot.examples, current=current.run)
    fresh = int(is_new(store, snapshot, before).sum())
    classes = tuple(label for label in snapshot.classes if label not in before.classes)
    return replace(
        _weighed(job, fresh, classes, before=before), new_examples=fresh, new_classes=classes, current=current.run
    )


def is_new(store: Store, snapshot: Snapshot, before: Snapshot) -> np.ndarray:
    """Which examples are new, changed or relabelled since the snapshot `before`, bool [n]."""
    now, then = (_rows(store, taken) for taken in (snapshot, before))
    return pc.invert(pc.is_in(now, value_set=then)).to_numpy(zero_copy_only=False)


def decide_by_features(run: Run, decision: Decision) -> Decision:
    """Completes a decision that depends on features, by a test whether those of the run's new examples are distributed
    as those of its other training examples.
    """
    when = run.job.retrain_when
    assert when is not None
    assert when.shift is not None
    p_value = _shift(run)
    shifted = p_value <= when.shift
    finding = f"{decision.new_examples} new examples: features {'have shifted' if shifted else 'are as before'}"
    reason = f"{finding} (p = {p_value:.3g}, retrain_when.shift: {when.shift:g})"
    return replace(decision, train=shifted, reason=reason, p_value=p_value)


def record(store: Store, run: str, decision: Decision) -> None:
    """Stores the decision about the run."""
    write_document(store, RunKeys(run).decision, decision)


def recorded(store: Store, run: str) -> Decision | None:
    """The stored decision about the run; None where there is none. Raises StorageError where it is no decision."""
    return read_document(store, RunKeys(run).decision, Decision)


def _shift(run: Run) -> float:
    """The p-value of the test; 0 where the current model's snapshot is gone."""
    store, snapshot = run.store, run.snapshot
    current = read_current(store, run.job.name)
    before = stored_snapshot(store, current.entry.snapshot) if current else None
    if before is None:
        return 0.0
    data = load_dataset(store, run.id, snapshot.classes, class_weights=None)
    fresh = is_new(store, snapshot, before)[data.rows]
    train = np.zeros(len(fresh), np.bool_)
    train[data.splits["train"]] = True
    old, new = (_sampled(np.flatnonzero(side)) for side in (train & ~fresh, fresh))
    first, second = (_features(store, data.pooled[0], examples) for examples in (old, new))
    return shift_p_value(first, second, data.labels[old], after_labels=data.labels[new])


def _sampled(examples: np.ndarray) -> np.ndarray:
    """At most MOST of the examples, drawn at random."""
    return np.random.default_rng(0).permutation(examples)[:MOST]


def _features(store: Store, features: FeatureSet, examples: np.ndarray) -> np.ndarray:
    """The features of these examples, float32 [n, d]."""
    values = np.empty((len(examples), *features.featurizer.shape), np.float32)
    part, offset = features.part[examples], features.offset[examples]
    for positions, part_values in read_stored(store, features.featurizer, features.parts, part=part, offset=offset):
        values[positions] = part_values
    return values


def _weighed(job: Job, fresh: int, classes: tuple[str, ...], *, before: Snapshot) -> Decision:
    when = job.retrain_when
    if when is None:
        return Decision(True, "retrain_when is not set: every run trains")
    if when.new_class and classes:
        return Decision(True, f"new classes: {', '.join(classes)}")
    finding = f"{fresh} new examples since the model in use, which was trained on {before.examples}"
    if not fresh:
        return Decision(False, finding)
    if when.new_examples is not None:
        needed = when.new_examples if isinstance(when.new_examples, int) else when.new_examples * before.examples
        finding += f" (retrain_when.new_examples: {when.new_examples:g})"
        if fresh >= needed:
            return Decision(True, finding)
    return Decision(None if when.shift is not None else False, finding)


def _rows(store: Store, snapshot: Snapshot) -> pa.ChunkedArray:
    table = read_snapshot(store, snapshot, ["key", "version", "label"])
    return pc.binary_join_element_wise(*(table[name] for name in ("key", "version", "label")), "\0")
