"""The forecast as one JSON document; docs/plan.md says what each key means."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from job.config import Job
from job.evaluation.duplicates import Duplicates
from job.features.cache_plan import Plan
from job.planning.calibration import Speeds
from job.planning.cautions import KnownOfRun, cautions
from job.planning.costs import PhaseCosts, Range, head_layers
from job.planning.headers import Headers, interval
from job.planning.history import History
from job.planning.listing import Seen, chosen
from job.planning.timing import Stage, total
from job.run.state import read_state
from job.storage import Store
from job.storage.runs import RunKeys, run_uri

FORMAT = 1
BLOCK = ("name", "layers", "parameters", "trainable")


@dataclass(frozen=True)
class Forecast:
    """All that was found out."""

    listed: Seen
    run: str | None
    """None where it can't be named before all packed files are read."""
    plan: Plan
    known: KnownOfRun
    phases: list[PhaseCosts]
    counts: dict[str, int]
    """Examples of each split."""
    stages: list[Stage]
    speeds: Speeds | None
    history: History | None
    note: str
    """Why nothing was measured, where that is so."""


def document(store: Store, found: Forecast) -> dict[str, Any]:
    known, listed, plan = found.known, found.listed, found.plan
    job, snapshot, anatomy, missing = known.job, known.snapshot, known.anatomy, known.missing
    head, _ = head_layers(job, plan.features, len(snapshot.classes))
    return {
        "format": FORMAT,
        "job": job.name,
        "task": job.task,
        "run": _run(store, found.run),
        "data": {
            "source": job.data.source,
            "snapshot": snapshot.id if listed.share == 1 else None,
            "share": listed.share,
            "examples": snapshot.examples,
            "counts": snapshot.counts,
            "left_out": snapshot.left_out,
            "rejects": _rejects(known.headers, snapshot.rejects, missing.rejects, snapshot.examples / listed.share),
            "pictures": asdict(known.headers.looks) if job.task == "image" else None,
            "duplicates": _duplicates(known.duplicates, listed),
        },
        "network": {
            "backbone": job.model.backbone,
            "features": plan.features,
            "parameters": anatomy.parameters,
            "head_parameters": head,
            "blocks": [dict(zip(BLOCK, row, strict=True)) for row in anatomy.blocks],
            "thawed": list(anatomy.thawed),
            "cut": plan.cut,
            "shape": list(plan.shape),
            "reason": plan.reason,
            "work": anatomy.work,
            "work_below_cut": anatomy.below,
        },
        "cache": {
            "tensors": [
                {**asdict(t), "shape": list(t.shape), "missing": t.missing, "bytes": t.needed * t.bytes_per_example}
                for t in missing.tensors
            ],
            "examples_to_compute": missing.examples,
            "passes_to_compute": missing.passes,
            "bytes_to_write": missing.to_write,
            "work": missing.passes * anatomy.work,
        },
        "phases": [_phase(phase, found.counts) for phase in found.phases],
        "time": _time(found.stages, found.speeds, found.history, found.note),
        "price": _price(job, total(found.stages)),
        "memory": {**asdict(known.memory), "total": known.memory.total},
        "warnings": [asdict(caution) for caution in cautions(known)],
    }


def _run(store: Store, run: str | None) -> dict[str, Any]:
    if run is None:
        return {"id": None, "uri": None, "state": "unknown"}
    begun = read_state(store, run)
    state = "finished" if store.stat(RunKeys(run).result) else "begun" if begun else "new"
    return {"id": run, "uri": run_uri(store, run), "state": state}


def _rejects(headers: Headers, listing: dict[str, int], decoding: dict[str, int], examples: float) -> dict[str, Any]:
    """What is known, and what a sample of the headers lets expect of the examples that are listed."""
    low, high = interval(headers.rejected, headers.sampled)
    rate = headers.rejected / headers.sampled if headers.sampled else 0.0
    expected = Range(math.floor(low * examples), round(rate * examples), math.ceil(high * examples))
    return {
        "listing": listing,
        "decoding": decoding,
        "sampled": headers.sampled,
        "sample": headers.reasons,
        "examples": [{"key": key, "reason": reason} for key, reason in headers.named],
        "expected": asdict(expected),
    }


def _duplicates(duplicates: Duplicates, listed: Seen) -> dict[str, Any]:
    held, train = duplicates.compared
    places = sorted({place for pair in duplicates.nearest for place in pair[:2]})
    rows = dict(zip(places, chosen(listed, places), strict=True)) if places else {}
    return {
        "held_out_compared": held,
        "train_compared": train,
        "held_out_with_a_near_copy": duplicates.pairs if held else None,
        "of_another_label": duplicates.other_label if held else None,
        "nearest": [
            {"held_out": rows[a].key, "train": rows[b].key, "distance": share} for a, b, share in duplicates.nearest
        ],
        "note": duplicates.note,
    }


def _phase(phase: PhaseCosts, counts: dict[str, int]) -> dict[str, Any]:
    forward = phase.forward * (counts["train"] + counts["validation"])
    backward = phase.backward * counts["train"]
    return {
        "name": phase.name,
        "trainable": phase.trainable,
        "epochs": asdict(phase.epochs),
        "assumes": phase.assumes,
        "forward_per_epoch": forward,
        "backward_per_epoch": backward,
        "work": (forward + backward) * phase.epochs.likely,
    }


def _time(stages: list[Stage], speeds: Speeds | None, history: History | None, note: str) -> dict[str, Any]:
    whole = total(stages)
    return {
        "stages": [asdict(stage) for stage in stages],
        "total": whole and asdict(whole),
        "calibration": speeds and {**asdict(speeds), "notes": list(speeds.notes)},
        "last_run": history and history.run,
        "note": note,
    }


def _price(job: Job, whole: Range | None) -> dict[str, Any]:
    """Workers are held from the first to the last second of a run."""
    workers, price = job.scaling.max_workers, job.scaling.worker_price
    hours = whole and whole.scaled(workers / 3600)
    return {
        "workers": workers,
        "worker_hours": hours and asdict(hours),
        "gpu_hours": asdict(hours) if hours and job.scaling.gpu else None,
        "worker_price": price,
        "price": asdict(hours.scaled(price)) if hours and price is not None else None,
    }
