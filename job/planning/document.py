"""The forecast as one JSON document; docs/plan.md says what each key means."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from job.evaluation.duplicates import Duplicates
from job.planning.cached import MissingFeatures
from job.planning.calibration import Speeds
from job.planning.cautions import cautions
from job.planning.costs import MemoryNeed, PhaseCosts, Range, head_layers
from job.planning.headers import Headers, interval
from job.planning.history import History
from job.planning.listing import Seen, chosen
from job.planning.planned import PlannedRun
from job.planning.timing import Stage, total
from job.run.state import read_state
from job.storage import Store
from job.storage.run_keys import RunKeys, run_uri

FORMAT = 1


@dataclass(frozen=True)
class Forecast:
    """All that was found out."""

    listed: Seen
    run: PlannedRun
    headers: Headers
    duplicates: Duplicates
    missing: MissingFeatures
    phases: list[PhaseCosts]
    memory: MemoryNeed
    counts: dict[str, int]
    """Examples of each split."""
    stages: list[Stage]
    speeds: Speeds | None
    history: History | None
    note: str
    """Why nothing was measured, where that is so."""


def document(store: Store, found: Forecast) -> dict[str, Any]:
    job = found.run.job
    return {
        "format": FORMAT,
        "job": job.name,
        "task": job.task,
        "run": _run(store, found.run.run),
        "data": _data(found),
        "network": _network(found.run, len(found.listed.snapshot.classes)),
        "cache": _cache(found.missing, found.run.anatomy.work),
        "phases": [_phase(phase, found.counts) for phase in found.phases],
        "time": _time(found),
        "price": _price(found),
        "memory": {**asdict(found.memory), "total": found.memory.total},
        "warnings": [asdict(caution) for caution in cautions(found)],
    }


def _run(store: Store, run: str | None) -> dict[str, Any]:
    if run is None:
        return {"id": None, "uri": None, "state": "unknown"}
    begun = read_state(store, run)
    state = "finished" if store.stat(RunKeys(run).result) else "begun" if begun else "new"
    return {"id": run, "uri": run_uri(store, run), "state": state}


def _data(found: Forecast) -> dict[str, Any]:
    job, snapshot, share, headers = found.run.job, found.listed.snapshot, found.listed.share, found.headers
    low, high = interval(headers.rejected, headers.sampled)
    rate, examples = headers.rejected / max(1, headers.sampled), snapshot.examples / share
    return {
        "source": job.data.source,
        "snapshot": snapshot.id if share == 1 else None,
        "share": share,
        "examples": snapshot.examples,
        "counts": snapshot.counts,
        "left_out": snapshot.left_out,
        "rejects": {
            "listing": snapshot.rejects,
            "decoding": found.missing.rejects,
            "sampled": headers.sampled,
            "sample": headers.reasons,
            "examples": [{"key": key, "reason": reason} for key, reason in headers.named],
            "expected": asdict(Range(math.floor(low * examples), round(rate * examples), math.ceil(high * examples))),
        },
        "pictures": asdict(headers.looks) if job.task == "image" else None,
        "duplicates": _duplicates(found.duplicates, found.listed),
    }


def _duplicates(duplicates: Duplicates, listed: Seen) -> dict[str, Any]:
    held, train = duplicates.compared
    places = sorted({place for pair in duplicates.nearest for place in pair[:2]})
    keys = {place: row.key for place, row in zip(places, chosen(listed, places), strict=True)}
    return {
        "held_out_compared": held,
        "train_compared": train,
        "held_out_with_a_near_copy": duplicates.pairs if held else None,
        "of_another_label": duplicates.other_label if held else None,
        "nearest": [{"held_out": keys[a], "train": keys[b], "distance": share} for a, b, share in duplicates.nearest],
        "note": duplicates.note,
    }


def _network(run: PlannedRun, classes: int) -> dict[str, Any]:
    plan, anatomy = run.plan, run.anatomy
    return {
        "backbone": run.job.model.backbone,
        "features": plan.features,
        "parameters": anatomy.parameters,
        "head_parameters": head_layers(run.job, plan.features, classes)[0],
        "blocks": [block._asdict() for block in anatomy.blocks],
        "thawed": list(anatomy.thawed),
        "cut": plan.cut,
        "shape": list(plan.shape),
        "reason": plan.reason,
        "work": anatomy.work,
        "work_below_cut": anatomy.below,
    }


def _cache(missing: MissingFeatures, work: int) -> dict[str, Any]:
    """`work` is that of a pass."""
    return {
        "tensors": [
            {**asdict(t), "shape": list(t.shape), "missing": t.missing, "bytes": t.needed * t.bytes_per_example}
            for t in missing.tensors
        ],
        "examples_to_compute": missing.examples,
        "passes_to_compute": missing.passes,
        "bytes_to_write": missing.to_write,
        "work": missing.passes * work,
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


def _time(found: Forecast) -> dict[str, Any]:
    whole, speeds = total(found.stages), found.speeds
    return {
        "stages": [asdict(stage) for stage in found.stages],
        "total": whole and asdict(whole),
        "calibration": speeds and {**asdict(speeds), "notes": list(speeds.notes)},
        "last_run": found.history and found.history.run,
        "note": found.note,
    }


def _price(found: Forecast) -> dict[str, Any]:
    """Workers are held from the first to the last second of a run."""
    scaling, whole = found.run.job.scaling, total(found.stages)
    workers, price = scaling.max_workers, scaling.worker_price
    hours = whole and whole.scaled(workers / 3600)
    return {
        "workers": workers,
        "worker_hours": hours and asdict(hours),
        "gpu_hours": asdict(hours) if hours and scaling.gpu else None,
        "worker_price": price,
        "price": asdict(hours.scaled(price)) if hours and price is not None else None,
    }
