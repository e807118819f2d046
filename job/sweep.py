"""A sweep: runs a job at several depths of thawing, with several seeds, to compare what each depth gains and costs.

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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from job.config import Job
from job.data.source import open_source
from job.errors import JobError
from job.executors import placed
from job.executors.placement import is_local
from job.features.cache_plan import Plan, read_plan, write_plan
from job.run.child import Process, run_thaw
from job.run.events import Announced, Emit, Noted
from job.run.identity import find_run
from job.run.interrupts import Interrupts
from job.storage import Store, open_store
from job.storage.runs import RunKeys
from job.telemetry.observed import run_observed

RunAll = Callable[[list["Trial"]], dict["Trial", dict[str, Any]]]
MEASURED = ("accuracy", "balanced_accuracy", "roc_auc")


@dataclass(frozen=True)
class Trial:
    blocks: int
    """The number of thawed blocks; 0 for the head alone."""
    seed: int

    @property
    def name(self) -> str:
        depth = f"{self.blocks} block{'s' if self.blocks > 1 else ''}" if self.blocks else "head only"
        return f"{depth}, seed {self.seed}"


def sweep(
    job: Job, depths: Sequence[int], seeds: int, at_once: int | None, emit: Emit, debug: bool = False
) -> dict[str, Any]:
    """Runs the job at each depth with `seeds` seeds, from its own on. Finished runs are only reported. The runs follow
    each other in this process; on Ray, `at_once` of them run at a time (None: as many as there is room for).

    The deepest run comes first: the features that it stores at its cut serve all others. None of the models is
    promoted. Returns {sweep (its URI), depths, runs}. Raises the error of a run once the others have kept a checkpoint.
    """
    if job.phases.fine_tune is None:
        raise JobError("phases.fine_tune: null: a sweep compares how deep fine-tuning thaws.")
    trials = [Trial(blocks, job.train.seed + more) for blocks in sorted(set(depths)) for more in range(seeds)]
    deepest = next(trial for trial in trials if trial.blocks == max(depths))
    others = [trial for trial in trials if trial != deepest]
    store = open_store(job.store, job.storage)
    with Interrupts(), _runner(job, at_once, emit, debug) as run_all:
        results = run_all([deepest])
        plan = read_plan(store, _id_of(results[deepest]))
        if plan and plan.cut:
            for trial in others:
                _share(trial_job(job, trial), store, plan)
        results |= run_all(others)
    rows = [_row(store, trial, results[trial]) for trial in trials]
    curves = {"depths": [_summary(blocks, rows) for blocks in sorted(set(depths))], "runs": rows}
    return {"sweep": _write(job, store, sorted(set(depths)), seeds, curves), **curves}


def trial_job(job: Job, trial: Trial) -> Job:
    """The job of a trial. It starts from the pretrained layers, and is neither promoted, exported in further
    formats, nor registered.
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


def _runner(job: Job, at_once: int | None, emit: Emit, debug: bool) -> AbstractContextManager[RunAll]:
    if is_local(job):
        return _one_by_one(job, emit, debug)
    return _side_by_side(placed(job, debug, emit), at_once, emit)


@contextmanager
def _one_by_one(job: Job, emit: Emit, debug: bool) -> Iterator[RunAll]:
    """Runs trials one after another in this process, which imports TensorFlow only once."""

    def run(trial: Trial) -> dict[str, Any]:
        emit(Announced(trial.name))
        return run_observed(trial_job(job, trial), "all", emit, debug=debug)

    yield lambda trials: {trial: run(trial) for trial in trials}


@contextmanager
def _side_by_side(job: Job, at_once: int | None, emit: Emit) -> Iterator[RunAll]:
    """Runs trials side by side on Ray, each in its own process."""
    from job.executors.ray.cluster import room

    with ThreadPoolExecutor(at_once or room(job)) as pool, _Running(job, emit) as running:
        yield lambda trials: dict(zip(trials, pool.map(running.run, trials), strict=True))


class _Running:
    """The processes of trials. An error in the `with` block asks them to keep a checkpoint and to end."""

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

    def run(self, trial: Trial) -> dict[str, Any]:
        """The result of a trial."""
        self._emit(Announced(trial.name))

        def note_line(line: str) -> None:
            self._emit(Noted(f"{trial.name}: {line}"))

        return json.loads(
            run_thaw("run", trial_job(self._job, trial), "--json", on_line=note_line, on_start=self._started)
        )

    def _started(self, process: Process) -> None:
        with self._lock:
            self._processes.append(process)
            if self._over:
                process.terminate()


def _share(job: Job, store: Store, plan: Plan) -> None:
    """Gives a run that has not begun the plan of the deepest run, so that it reads the stored features of that."""
    run = find_run(job, open_source(job), store, lambda event: None).run
    if read_plan(store, run) is not None:
        return
    if job.phases.fine_tune is None:
        plan = Plan(plan.features, reason="the head alone is trained: pooled features are all that is stored")
    write_plan(store, run, replace(plan, reason=f"that of the deepest run of the sweep: {plan.reason}"))


def _id_of(result: dict[str, Any]) -> str:
    return str(result["run"]).rstrip("/").rpartition("/")[2]


def _row(store: Store, trial: Trial, result: dict[str, Any]) -> dict[str, Any]:
    """The row of a run: its metrics on the test split, and the seconds and epochs of its phases."""
    training = json.loads(store.read(RunKeys(_id_of(result)).training))
    phase = "fine_tune" if trial.blocks else "head"
    metrics = {name: result["metrics"][phase][name] for name in MEASURED}
    records = [record for records in training["history"].values() for record in records if record["epoch"]]
    return {
        **asdict(trial),
        "run": result["run"],
        "examples": result["metrics"][phase]["examples"],
        **metrics,
        "validation_loss": min(record["validation_loss"] for record in training["history"][phase]),
        "parameters": training["parameters"][phase],
        "epochs": len(records),
        "seconds": sum(record["seconds"] for record in records),
    }


def _summary(blocks: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of the runs at a depth: means, and standard deviations between seeds (None for a single run)."""
    of_depth = [row for row in rows if row["blocks"] == blocks]
    summary: dict[str, Any] = {"blocks": blocks, "runs": len(of_depth)}
    summary |= {name: of_depth[0][name] for name in ("parameters", "examples")}
    for name in (*MEASURED, "validation_loss", "seconds"):
        values = [row[name] for row in of_depth if row[name] is not None]
        summary[name] = statistics.fmean(values) if values else None
        summary[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    return summary


def _write(job: Job, store: Store, depths: Sequence[int], seeds: int, curves: dict[str, Any]) -> str:
    """Writes the documents of the sweep; returns the URI of their folder."""
    from job.report.curves import depth_curve

    meaning = json.dumps({"job": job.meaning(), "depths": depths, "seeds": seeds}, sort_keys=True)
    folder = f"sweeps/{job.name}-{hashlib.sha256(meaning.encode()).hexdigest()[:12]}/"
    store.write(f"{folder}sweep.json", json.dumps(curves, indent=1).encode())
    store.write(f"{folder}sweep.svg", depth_curve(curves["depths"], job.name))
    return f"{store.uri}{folder}"
