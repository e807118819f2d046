"""The run that is planned: its id, its network, and what of that is stored and trained."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from job.config import GLOVE, Job
from job.errors import ClusterError
from job.features.cache_plan import Plan, choose_plan, featurizers, input_featurizer, read_plan
from job.features.store import Featurizer
from job.model.anatomy import Anatomy, anatomy_of, read_anatomy
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.planning.calibration import measured_share
from job.planning.listing import Seen
from job.registry.current import read_current
from job.registry.warm import plan_in_use
from job.run.events import Emit
from job.run.identity import latest_run, prepare_base, run_id
from job.storage import Store
from job.storage.run_keys import RunKeys
from job.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    import keras


class PlannedNetwork:
    """The network of the job, which is made where it is asked for; this imports TensorFlow."""

    def __init__(self, job: Job, store: Store, emit: Emit) -> None:
        self._job, self._store, self._emit = job, store, emit

    @cached_property
    def imported(self) -> float:
        """Prepares this process as that of an embedded run, and returns the seconds that it took, of which nearly all
        are TensorFlow's import. Raises ClusterError where the job wants a GPU and there is none.
        """
        from job.executors.local import LocalExecutor
        from job.run.strategy import prepare_process

        began = time.monotonic()
        with LocalExecutor(self._job):
            prepare_process(self._job, measured_share(self._job).cores)
        return time.monotonic() - began

    @cached_property
    def made(self) -> tuple[ResolvedBase, keras.Model]:
        """The base of the run, and the network with the layers thawed that fine-tuning trains."""
        with suppress(ClusterError):  # what it is made of is the same without a GPU
            _ = self.imported
        return prepare_base(self._job, self._store, self._emit)


@dataclass(frozen=True)
class PlannedRun:
    job: Job
    run: str | None
    """None where it can't be named before all packed files are read."""
    base: ResolvedBase
    plan: Plan
    anatomy: Anatomy
    prepared: bool
    """Whether the store has the weights."""
    words: int | None
    """How many words' vectors may train, of glove; None where the texts were not read so far."""

    @property
    def wanted(self) -> list[Featurizer]:
        """What the feature store has to have."""
        pooled, inputs = featurizers(self.job, self.base, self.plan)
        words = [input_featurizer(self.job)] if self.job.model.backbone == GLOVE else []
        return list({featurizer.id: featurizer for featurizer in (*pooled, *inputs, *words)}.values())


def planned_run(job: Job, store: Store, listed: Seen, *, network: PlannedNetwork) -> PlannedRun:
    """What was planned for this run before is read, without TensorFlow; else the network is made and looked at."""
    known = known_base(store, weights_request(job.model, job.train.seed))
    base = known or network.made[0]
    run = latest_run(store, run_id(job, listed.snapshot, base), False) if listed.share == 1 else None
    plan, anatomy = _planned_before(job, store, listed, run=run, base=base)
    plan = plan or choose_plan(job, network.made[1], listed.snapshot)
    anatomy = anatomy or anatomy_of(network.made[1], plan.cut)
    return PlannedRun(job, run, base, plan, anatomy, known is not None, _words(job, store, run))


def _planned_before(
    job: Job, store: Store, listed: Seen, *, run: str | None, base: ResolvedBase
) -> tuple[Plan | None, Anatomy | None]:
    """For this run, or for the model in use where the run would take its plan over."""
    plan = read_plan(store, run) if run else None
    if run and plan:
        return plan, read_anatomy(store, run)
    plan = plan_in_use(job, run, store, base=base, snapshot=listed.snapshot)
    current = read_current(store, job.name) if plan else None
    return plan, read_anatomy(store, current.run) if current else None


def _words(job: Job, store: Store, run: str | None) -> int | None:
    if job.model.backbone != GLOVE or run is None or store.stat(RunKeys(run).vocabulary) is None:
        return None
    trained = int((read_vocabulary(store, run)[1] > 0).sum())
    rule = job.phases.fine_tune and job.phases.fine_tune.unfreeze
    return min(trained, getattr(rule, "words", trained))
