"""Asks the model in use about the test examples of another run, from stored features where there are any.

Its own frozen network computes only the features of examples that are new to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from job.config import Job
from job.data.source import open_source
from job.errors import BrokenDocument, CorruptFeatures, JobError, ObjectMissing
from job.evaluation.predictions import logits_of, predictions_table
from job.executors import Executor
from job.features.cache_plan import Plan, read_plan
from job.features.dataset import Examples, read_examples
from job.features.extract import complete
from job.features.featurize import Overflow
from job.features.store import MAX_CORRUPT, Featurizer, Part, forget_corrupt, read_stored
from job.libraries import import_tensorflow
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.run.events import Emit
from job.run.outcome import RunResult
from job.run.run import Run, read_job
from job.storage import Store
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys, run_uri

BATCH = 64
"""Examples that the network takes at a time."""


@dataclass(frozen=True)
class ChampionModel:
    """The parts of a finished run by which its model can be asked without its export."""

    run: str
    job: Job
    base: ResolvedBase
    plan: Plan
    kept: str
    classes: list[str]


@dataclass(frozen=True)
class ChampionAnswers:
    """The answers of a run's own model and of the model in use to the run's test examples, in one order."""

    labels: np.ndarray
    """Indexes into the run's classes, int [n]."""
    candidate: np.ndarray
    """Whether the run's own model is right, bool [n]."""
    champion: np.ndarray
    """Whether the model in use is right, bool [n]; false for classes that it does not know."""


def answers(run: Run, kept: str, champion: str, *, executor: Executor, emit: Emit) -> ChampionAnswers:
    """Asks the model of the run `champion` about the test examples of `run`; `kept` names the model of `run` that was
    exported. Raises ObjectMissing where the champion can no longer be asked.
    """
    job, store, snapshot = run.job, run.store, run.snapshot
    model = load_model(store, champion)
    table = predictions_table(store, run.id)
    keys, labels = table["key"].combine_chunks(), table["label"].to_numpy()
    logits = logits_of(table, kept)
    examples = _chosen(read_examples(store, snapshot, open_source(job).uri, packed=job.data.is_packed), keys)
    try:
        theirs = Job.model_validate({**model.job.model_dump(by_alias=True), "data": job.data, "scaling": job.scaling})
    except ValidationError as error:
        raise ObjectMissing(f"{champion}: its model is of another task, and can't be asked about this data.") from error
    plan = model.plan
    for tries in range(MAX_CORRUPT + 1):
        try:
            done = complete(replace(run, job=theirs, base=model.base), examples, plan, executor=executor, emit=emit)
            ((featurizer, stored), *_) = done.inputs if model.kept == "fine_tune" else done.pooled
            predicted = executor.call(predict, store, model, featurizer, stored.parts, *stored.find(examples.addresses))
            break
        except Overflow:
            plan = replace(plan, dtype="bfloat16")
        except CorruptFeatures as error:
            if tries == MAX_CORRUPT:
                raise
            forget_corrupt(store, error, emit)
    names = np.array([*model.classes, ""], object)[predicted]
    return ChampionAnswers(labels, logits.argmax(axis=1) == labels, names == np.array(snapshot.classes, object)[labels])


def load_model(store: Store, run: str) -> ChampionModel:
    """The model of a finished run. Raises ObjectMissing where its files are gone, or of another version of Thaw."""
    try:
        job, plan = read_job(store, run), read_plan(store, run)
        result = read_document(store, RunKeys(run).result, RunResult)
    except (JobError, BrokenDocument) as error:
        raise ObjectMissing(str(error)) from error
    if job is None or result is None or result.kept is None or plan is None:
        raise ObjectMissing(f"{run_uri(store, run)}: files of this run are gone.")
    base = known_base(store, weights_request(job.model, job.train.seed))
    if base is None:
        raise ObjectMissing(f"{store.uri}weights/: the weights that {run} began with are gone.")
    return ChampionModel(run, job, base, plan, result.kept, result.classes)


def _chosen(examples: Examples, keys: pa.Array) -> Examples:
    """The examples of these keys, in their order."""
    at = pc.index_in(keys, value_set=examples.table["key"].combine_chunks()).to_numpy()
    taken = (array[at] for array in (examples.splits, examples.addresses, examples.hashes))
    return Examples(examples.rows[at], examples.table.take(at), *taken)


def predict(
    store: Store, model: ChampionModel, featurizer: Featurizer, parts: list[Part], part: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    """The model's answers as indexes into its classes, int [n]; -1 where it can't read the example. Raises
    CorruptFeatures.
    """
    forward = _forward(store, model, featurizer)
    predicted = np.full(len(part), -1, np.int64)
    for positions, values in read_stored(store, featurizer, parts, part=part, offset=offset):
        for first in range(0, len(positions), BATCH):
            batch = values[first : first + BATCH]
            padded = np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), batch.dtype)])
            predicted[positions[first : first + BATCH]] = forward(padded).numpy().argmax(axis=1)[: len(batch)]
    return predicted


def _forward(store: Store, model: ChampionModel, featurizer: Featurizer) -> Any:
    """A compiled function: stored features [BATCH, …] -> logits, float32 [BATCH, classes]."""
    import_tensorflow()
    import tensorflow as tf

    from job.export.exporter import trained_network
    from job.model.cut import cut_named, split

    network = trained_network(model.job, store, model.run, classes=len(model.classes), base=model.base, kept=model.kept)
    suffix: Any = network.base if featurizer.is_input else None
    if not featurizer.is_input and featurizer.tap != "pooled":
        suffix = split(network.base, cut_named(network.base, featurizer.tap))[1]

    @tf.function
    def forward(stored: tf.Tensor) -> tf.Tensor:
        if featurizer.dtype == "bfloat16":
            stored = tf.bitcast(stored, tf.bfloat16)
        if suffix is not None:
            stored = suffix(tf.cast(stored, suffix.input.dtype), training=False)
        return network.head(stored, training=False)

    return forward
