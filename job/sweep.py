"""The same job at several depths of thawing, with several seeds: what each depth gains, and what it costs.

sweeps/<name>-<12 hex digits>/sweep.json   {depths, runs}
                             /sweep.svg    the curves
"""

from __future__ import annotations

import hashlib
import json
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from job.config import Job
from job.data.source import open_source
from job.errors import JobError
from job.executors import placed
from job.executors.placement import is_local
from job.features.cache_plan import Plan, read_plan, write_plan
from job.report.curves import DepthSummary, depth_curve
from job.run.child import Process, run_thaw
from job.run.events import Announced, Emit, Noted
from job.run.identity import find_run
from job.run.interrupts import Interrupts
from job.run.outcome import RunResult, Training
from job.storage import Store, open_store
from job.storage.documents import decoded, read_document, write_document
from job.storage.run_keys import RunKeys, run_id_of
from job.telemetry.observed import run_observed

RunAll = Callable[[list["Trial"]], dict["Trial", RunResult]]


@dataclass(frozen=True)
class Trial:
    blocks: int
    """The number of thawed blocks; 0 for the head alone."""
    seed: int

    @property
    def name(self) -> str:
        depth = f"{self.blocks} block{'s' if self.blocks > 1 else ''}" if self.blocks else "head only"
        return f"{depth}, seed {self.seed}"


@dataclass(frozen=True)
class TrialResult:
    """A run: its metrics on the test split, and what its training took."""

    blocks: int
    seed: int
    run: str
    """The URI."""
    examples: int
    """Examples of the test split."""
    accuracy: float
    balanced_accuracy: float
    roc_auc: float | None
    validation_loss: float
    """The lowest one."""
    parameters: int
    """Parameters that trained."""
    epochs: int
    """Epochs of both phases."""
    seconds: float
    """Seconds of these epochs."""


@dataclass(frozen=True)
class SweepDocument:
    """sweep.json."""

    depths: list[DepthSummary]
    runs: list[TrialResult]


class Sweep(NamedTuple):
    uri: str
    """The folder of the sweep."""
    document: SweepDocument


def sweep(
    job: Job, depths: Sequence[int], seeds: int, *, at_once: int | None, emit: Emit, debug: bool = False
) -> Sweep:
    """Runs the job, or reports its runs, at each depth with `seeds` seeds from its own on: one after another in this
    process; or on Ray, `at_once` of them at a time (None: as many as it has room for).

    The deepest comes first: what it stores where it cuts the network serves all others. None of the runs comes into
    use. Raises what a run ended with, once the others have kept a checkpoint.
    """
    if job.phases.fine_tune is None:
        raise JobError("phases.fine_tune: null: a sweep compares how deep fine-tuning thaws.")
    depths = sorted(set(depths))
    trials = [Trial(blocks, job.train.seed + more) for blocks in depths for more in range(seeds)]
    deepest = trials[-seeds]  # the first of its depth
    others = [trial for trial in trials if trial != deepest]
    store = open_store(job.store, job.storage)
    with Interrupts(), _runner(job, at_once, emit, debug=debug) as run_all:
        results = run_all([deepest])
        plan = read_plan(store, run_id_of(results[deepest].run))
        if plan and plan.cut:
            for trial in others:
                _share(trial_job(job, trial), store, plan)
        results |= run_all(others)
    rows = [_row(store, trial, results[trial]) for trial in trials]
    swept = SweepDocument([_summary(blocks, rows) for blocks in depths], rows)
    return Sweep(_write(job, store, depths, seeds=seeds, swept=swept), swept)


def trial_job(job: Job, trial: Trial) -> Job:
    """The job of a trial: from the pretrained layers, judged by nobody, exported in no further format, registered
    nowhere.
    """
    document = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    phases = dict(document.get("phases", {}))
    phases["head"] = {**phases.get("head", {}), "warm_start": False}
    fine_tune = {**phases.get("fine_tune", {}), "warm_epochs": None, "unfreeze": {"blocks": trial.blocks}}
    phases["fine_tune"] = fine_tune if trial.blocks else None
    train = {**document.get("train", {}), "seed": trial.seed}
    off: dict[str, Any] = {"promote": None, "retrain_when": None, "export": {}}
    if job.mlflow is not None:
        off["mlflow"] = {**document["mlflow"], "registered_model": None}
    return Job.model_validate({**document, "phases": phases, "train": train, **off})


@contextmanager
def _runner(job: Job, at_once: int | None, emit: Emit, *, debug: bool) -> Iterator[RunAll]:
    """Runs trials one after another in this process, which imports TensorFlow once; or on Ray, side by side, each in a
    process of its own.
    """

    def embedded(trial: Trial) -> RunResult:
        emit(Announced(trial.name))
        return run_observed(trial_job(job, trial), "all", emit, debug=debug).result

    if is_local(job):
        yield lambda trials: {trial: embedded(trial) for trial in trials}
        return
    from job.executors.ray.cluster import room

    job = placed(job, debug, emit)
    with ThreadPoolExecutor(at_once or room(job)) as pool, _Running(job, emit) as running:
        yield lambda trials: dict(zip(trials, pool.map(running.run, trials), strict=True))


class _Running:
    """The processes of trials; leaving its `with` block by an error asks them to keep a checkpoint and to end."""

    def __init__(self, job: Job, emit: Emit) -> None:
        self._job, self._emit = job, emit
        self._lock, self._over = threading.Lock(), False
        self._processes: list[Process] = []

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            self._over = self._over or error is not None
            for process in self._processes if error else ():
                process.terminate()

    def run(self, trial: Trial) -> RunResult:
        self._emit(Announced(trial.name))

        def note(line: str) -> None:
            self._emit(Noted(f"{trial.name}: {line}"))

        printed = run_thaw("run", trial_job(self._job, trial), "--json", on_line=note, on_start=self._started)
        where = f"{trial.name}: what `thaw run` has printed"
        return decoded(printed.encode(), RunResult, where, remedy="run it alone")

    def _started(self, process: Process) -> None:
        with self._lock:
            self._processes.append(process)
            if self._over:
                process.terminate()


def _share(job: Job, store: Store, plan: Plan) -> None:
    """Has a run that is not begun read what the deepest has stored."""
    run = find_run(job, open_source(job), store, emit=lambda event: None).run
    if read_plan(store, run) is not None:
        return
    if job.phases.fine_tune is None:
        plan = Plan(plan.features, reason="the head alone is trained: pooled features are all that is stored")
    write_plan(store, run, replace(plan, reason=f"that of the deepest run of the sweep: {plan.reason}"))


def _row(store: Store, trial: Trial, result: RunResult) -> TrialResult:
    training = read_document(store, RunKeys(run_id_of(result.run)).training, Training)
    assert training is not None, "the run is finished"
    phase = "fine_tune" if trial.blocks else "head"
    metrics = result.tested[phase]
    records = [record for phase in training.history for record in training.trained_epochs(phase)]
    return TrialResult(
        blocks=trial.blocks,
        seed=trial.seed,
        run=result.run,
        examples=metrics.examples,
        accuracy=metrics.accuracy,
        balanced_accuracy=metrics.balanced_accuracy,
        roc_auc=metrics.roc_auc,
        validation_loss=min(record.validation_loss for record in training.history[phase]),
        parameters=training.parameters[phase],
        epochs=len(records),
        seconds=sum(record.seconds or 0.0 for record in records),
    )


def _summary(blocks: int, rows: list[TrialResult]) -> DepthSummary:
    of_depth = [row for row in rows if row.blocks == blocks]
    figures: dict[str, Any] = {}
    for name in ("accuracy", "balanced_accuracy", "roc_auc", "validation_loss", "seconds"):
        values = [value for row in of_depth if (value := getattr(row, name)) is not None]
        figures[name] = statistics.fmean(values) if values else None
        figures[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    first = of_depth[0]
    return DepthSummary(blocks, len(of_depth), parameters=first.parameters, examples=first.examples, **figures)


def _write(job: Job, store: Store, depths: Sequence[int], *, seeds: int, swept: SweepDocument) -> str:
    """The folder's URI."""
    meaning = json.dumps({"job": job.meaning(), "depths": depths, "seeds": seeds}, sort_keys=True)
    folder = f"sweeps/{job.name}-{hashlib.sha256(meaning.encode()).hexdigest()[:12]}/"
    write_document(store, f"{folder}sweep.json", swept)
    store.write(f"{folder}sweep.svg", depth_curve(swept.depths, job.name))
    return f"{store.uri}{folder}"
