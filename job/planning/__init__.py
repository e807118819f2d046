"""What a run would read, store, compute, take and cost, before any of it is done; nothing is written to its store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from job.config import GLOVE, Job
from job.data.forms import form_of
from job.data.source import open_source
from job.errors import ClusterError
from job.evaluation.duplicates import near_duplicates, unknown
from job.executors import placed
from job.executors.placement import worker_cpus
from job.features.cache_plan import Plan, choose_plan, featurizers, input_featurizer, read_plan
from job.model.anatomy import Anatomy, anatomy_of, read_anatomy
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.planning.cached import look_up
from job.planning.calibration import EXAMPLES, Speeds, calibrate, devices_here
from job.planning.cautions import KnownOfRun
from job.planning.costs import memory, phases
from job.planning.document import Forecast, document
from job.planning.headers import look_at
from job.planning.history import History, last_like
from job.planning.listing import Seen, numbers, sampled, seen
from job.planning.timing import stages
from job.registry.current import read_current
from job.registry.warm import plan_in_use
from job.run.events import Announced, Emit
from job.run.identity import latest_run, prepare_base, run_id
from job.storage import Store, open_store
from job.storage.read_only import OverlayStore
from job.storage.runs import RunKeys
from job.storage.scratch import scratch
from job.text.vocabulary import read_vocabulary
from job.wording import plural


@dataclass(frozen=True)
class PlannedRun:
    """The run that is forecast."""

    run: str | None
    """None where it can't be named before all packed files are read."""
    base: ResolvedBase
    plan: Plan
    anatomy: Anatomy
    prepared: bool
    """Whether the store has the weights."""


def forecast(job: Job, emit: Emit, calibrates: bool | None = None) -> dict[str, Any]:
    """The document that `thaw plan --json` prints. Raises what the run itself would raise at its beginning.

    `calibrates`: None measures on this machine only where no run like this one was finished. TensorFlow is imported
    only to measure, or where the network of the run was not planned before.
    """
    job = placed(job, False, emit)
    source, below = open_source(job), open_store(job.store, job.storage)
    with scratch() as folder:
        store = OverlayStore(below, folder)
        emit(Announced(f"listing {source.uri}"))
        with seen(job, source, store) as listed:
            network = _Network(job, store, emit)
            subject = _subject(job, store, listed, network)
            return _forecast(job, store, listed, subject, network, calibrates, emit)


def _forecast(
    job: Job,
    store: OverlayStore,
    listed: Seen,
    subject: PlannedRun,
    network: _Network,
    calibrates: bool | None,
    emit: Emit,
) -> dict[str, Any]:
    source, snapshot, plan, anatomy = open_source(job), listed.snapshot, subject.plan, subject.anatomy
    pooled, inputs = featurizers(job, subject.base, plan)
    wanted = [*pooled, *inputs]
    if job.model.backbone == GLOVE and input_featurizer(job) not in wanted:
        wanted.append(input_featurizer(job))
    rows = cache(lambda: numbers(listed, source.uri))
    missing = look_up(store, wanted, rows, snapshot.counts)
    some_stored = any(tensor.tap == "pooled" and tensor.stored for tensor in missing.tensors)
    if some_stored:
        duplicates = near_duplicates(store, pooled[0], rows())
    else:
        duplicates = unknown(
            (snapshot.examples - (train := sum(snapshot.counts["train"].values())), train),
            "it will be known once the features are computed",
        )
    missing = missing.scaled(1 / listed.share)
    history, classes = last_like(job, store, subject.run), max(2, len(snapshot.classes))
    headers = look_at(job.data, form_of(job), source, sampled(listed), EXAMPLES)
    made = history.epochs if history else {}
    found = phases(job, plan, anatomy, classes, made, _words(job, store, subject.run))
    memories = memory(job, plan, anatomy, found[-1], sum(t.needed * t.bytes_per_example for t in missing.tensors))
    wants = _needs_calibration(history, missing.examples, [phase.name for phase in found])
    speeds, note = None, ""
    if wants if calibrates is None else calibrates:
        speeds, note = _calibrated(job, store, network, subject, classes, headers.usable, memories.total, emit)
        if calibrates and speeds and history:
            history = replace(history, seconds={}, example=None, fixed={})
    counts = {split: round(sum(of.values()) / listed.share) for split, of in snapshot.counts.items()}
    timed = stages(job, listed.seconds, subject.prepared, missing, found, counts, speeds, history)
    known = KnownOfRun(job, snapshot, anatomy, headers, missing, memories, duplicates, listed.share)
    return document(store, Forecast(listed, subject.run, plan, known, found, counts, timed, speeds, history, note))


class _Network:
    """The network of the job, which is made where it is asked for; this imports TensorFlow."""

    def __init__(self, job: Job, store: Store, emit: Emit) -> None:
        self.job, self.store, self.emit = job, store, emit
        self.no_gpu = ""
        self._made: tuple[ResolvedBase, Any] | None = None

    def __call__(self) -> tuple[ResolvedBase, Any]:
        """The base of the run, and the network with the layers thawed that fine-tuning trains."""
        if self._made is None:
            from job.run.strategy import prepare_process

            try:
                prepare_process(self.job, worker_cpus(self.job))
            except ClusterError:
                self.no_gpu = "scaling.gpu: true, and this machine has no GPU"
            base, network = prepare_base(self.job, self.store, self.emit)
            self._made = base, network
        return self._made


def _subject(job: Job, store: Store, listed: Seen, network: _Network) -> PlannedRun:
    known = known_base(store, weights_request(job.model, job.train.seed))
    base = known or network()[0]
    run = latest_run(store, run_id(job, listed.snapshot, base), False) if listed.share == 1 else None
    plan, anatomy = _planned(job, store, listed, run, base)
    plan = plan or choose_plan(job, network()[1], listed.snapshot)
    anatomy = anatomy or anatomy_of(network()[1], plan.cut)
    return PlannedRun(run, base, plan, anatomy, known is not None)


def _planned(
    job: Job, store: Store, listed: Seen, run: str | None, base: ResolvedBase
) -> tuple[Plan | None, Anatomy | None]:
    """What was planned for this run before, or for the model in use where the run would take it over."""
    plan = read_plan(store, run) if run else None
    if run and plan:
        return plan, read_anatomy(store, run)
    plan = plan_in_use(job, run, store, base, listed.snapshot)
    current = read_current(store, job.name) if plan else None
    return plan, read_anatomy(store, current.run) if current else None


def _words(job: Job, store: Store, run: str | None) -> int | None:
    """How many words' vectors may train; None where the texts were not read so far."""
    if job.model.backbone != GLOVE or run is None or store.stat(RunKeys(run).vocabulary) is None:
        return None
    trained = int((read_vocabulary(store, run)[1] > 0).sum())
    rule = job.phases.fine_tune and job.phases.fine_tune.unfreeze
    return min(trained, getattr(rule, "words", trained))


def _needs_calibration(history: History | None, missing: int, names: list[str]) -> bool:
    if history is None:
        return True
    return (missing > 0 and history.example is None) or any(name not in history.seconds for name in names)


def _calibrated(
    job: Job,
    store: OverlayStore,
    network: _Network,
    subject: PlannedRun,
    classes: int,
    encoded: list[bytes],
    worker: int,
    emit: Emit,
) -> tuple[Speeds | None, str]:
    """What was measured, with workers of so many bytes; or why nothing was."""
    if not encoded:
        return None, "none of the sampled examples can be decoded: nothing was measured"
    _, base = network()
    if network.no_gpu:
        return None, f"{network.no_gpu}: nothing was measured"
    devices = devices_here(job, worker)
    emit(Announced(f"measuring this machine with {plural(len(devices), 'worker')}, for about 20 seconds"))
    try:
        return calibrate(job, base, subject.plan, subject.anatomy, classes, encoded, devices, store.folder), ""
    except ClusterError as error:
        return None, f"{error}: nothing was measured"
