"""What a run would read, store, compute, take and cost, before any of it is done; nothing is written to its store."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from job.config import Job
from job.data.forms import form_of
from job.data.source import open_source
from job.evaluation.duplicates import Duplicates, near_duplicates, unknown
from job.executors import placed
from job.planning.cached import MissingFeatures, look_up
from job.planning.calibration import EXAMPLES, calibrated
from job.planning.costs import memory, phases
from job.planning.document import Forecast, document
from job.planning.forecast_document import ForecastDocument
from job.planning.headers import look_at
from job.planning.history import History, last_like
from job.planning.listing import Seen, numbers, sampled, seen
from job.planning.modelled import scale_section
from job.planning.planned import PlannedNetwork, PlannedRun, planned_run
from job.planning.timing import stages
from job.run.events import Announced, Emit
from job.storage import Store, open_store
from job.storage.read_only import OverlayStore
from job.storage.scratch import scratch


class Asked(NamedTuple):
    """What a forecast is asked for."""

    calibrates: bool | None = None
    """None measures on this machine only where no run like this one was finished."""
    gpu: str | None = None
    """One of job.planning.worker_kinds, for a model of the run on workers that have such a GPU each."""
    workers: int | None = None
    """The number of these; None is that of the job."""


BY_DEFAULT = Asked()


def forecast(job: Job, emit: Emit, asked: Asked = BY_DEFAULT) -> ForecastDocument:
    """The document that `thaw plan --json` prints. Raises what the run itself would raise at its beginning.

    TensorFlow is imported only to measure, or where the network of the run was not planned before.
    """
    job = placed(job, False, emit)
    source, below = open_source(job), open_store(job.store, job.storage)
    with scratch() as folder:
        store = OverlayStore(below, folder)
        emit(Announced(f"listing {source.uri}"))
        with seen(job, source, store) as listed:
            found = _forecast(job, store, listed, calibrates=asked.calibrates, emit=emit)
            workers = asked.workers or job.scaling.max_workers
            return document(store, found, scale_section(found, asked.gpu, workers) if asked.gpu else None)


def _forecast(job: Job, store: Store, listed: Seen, *, calibrates: bool | None, emit: Emit) -> Forecast:
    source, snapshot, network = open_source(job), listed.snapshot, PlannedNetwork(job, store, emit)
    run = planned_run(job, store, listed, network=network)
    missing, duplicates = _stored(run, store, listed, source=source.uri)
    history, classes = last_like(job, store, run.run), max(2, len(snapshot.classes))
    headers = look_at(job.data, form_of(job), source, rows=sampled(listed), most=EXAMPLES)
    costs = phases(
        job, run.plan, run.anatomy, classes=classes, last_epochs=history.epochs if history else {}, words=run.words
    )
    stored = sum(tensor.needed * tensor.bytes_per_example for tensor in missing.tensors)
    speeds, note = None, ""
    if calibrates or (calibrates is None and not _is_known(history, missing, [phase.name for phase in costs])):
        emit(Announced("measuring this machine, for about 20 seconds"))
        speeds, note = calibrated(run, costs, store, network=network, encoded=headers.usable, classes=classes)
        if calibrates and speeds and history:
            history = replace(history, seconds={}, example=None, fixed={})
    counts = {split: round(sum(of.values()) / listed.share) for split, of in snapshot.counts.items()}
    return Forecast(
        listed=listed,
        run=run,
        headers=headers,
        duplicates=duplicates,
        missing=missing,
        phases=costs,
        memory=memory(job, run.plan, run.anatomy, phase=costs[-1], stored=stored),
        counts=counts,
        stages=stages(
            job,
            listed.seconds,
            run.prepared,
            missing=missing,
            phases=costs,
            counts=counts,
            speeds=speeds,
            history=history,
        ),
        speeds=speeds,
        history=history,
        note=note,
    )


def _stored(run: PlannedRun, store: Store, listed: Seen, *, source: str) -> tuple[MissingFeatures, Duplicates]:
    """What the feature store lacks of the whole source, and the copies across splits among what it has."""
    snapshot, rows = listed.snapshot, cache(lambda: numbers(listed, source))
    missing = look_up(store, run.wanted, rows, counts=snapshot.counts)
    if any(tensor.tap == "pooled" and tensor.stored for tensor in missing.tensors):
        duplicates = near_duplicates(store, run.wanted[0], rows())
    else:
        train = sum(snapshot.counts["train"].values())
        duplicates = unknown((snapshot.examples - train, train), "it will be known once the features are computed")
    return missing.scaled(1 / listed.share), duplicates


def _is_known(history: History | None, missing: MissingFeatures, names: list[str]) -> bool:
    """Whether the last run tells how long this one takes."""
    if history is None or (missing.examples and history.example is None):
        return False
    return all(name in history.seconds for name in names)
