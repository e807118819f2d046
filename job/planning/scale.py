"""A model of a run on many workers, by arithmetic alone: what can't be measured on the machine that asks.

docs/scale.md has the formulas, where the constants come from, and how far the model was from what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from job.data.order import WorkerShare, steps_per_epoch, stream_count

KEY = 8.5e-6
"""Seconds of a processor for each listed key (benchmarks/listing.py)."""
PAGE, PAGES_AT_ONCE = 1000, 8
"""Keys of a page, and pages that a long listing waits for at a time."""
READS_AT_ONCE = 32
"""Objects that a decoder waits for at a time."""
FLOAT = 4
"""Bytes of a gradient."""


@dataclass(frozen=True)
class WorkerKind:
    """What decides how fast a worker is. Rates are by the second, bytes of one worker in one direction."""

    name: str
    work: float
    """Multiply-adds of the network."""
    cores: float
    """Cores that decode for each worker."""
    exchange: float
    """Bytes that a worker sends to its neighbour in the ring."""
    hop: float
    """Seconds until the first of them are there."""
    storage: float
    """Bytes that a worker gets from the store, or sends to it."""
    latency: float
    """Seconds until the store begins to answer."""
    step: float
    """Seconds of a step beside the network, the batch and the sum: the optimizer, and what starts them."""
    start: float
    """Seconds from the decision to start workers to their first step, without what is computed for it."""
    prepare: float
    """Seconds of a worker's cores until then: imports, and what it loads."""
    another: float
    """Seconds that each further worker adds."""
    shared: int = 0
    """Workers that have room on a machine before they wait for each other's cores; 0: each has its own."""


@dataclass(frozen=True)
class PhaseLoad:
    """A phase of training. Work is in multiply-adds of an example."""

    name: str
    trainable: int
    forward: float
    backward: float
    epochs: float
    example_bytes: int
    """Of an example's stored features, which the first epoch reads from the store."""
    on_cpus: bool = False
    """Whether workers without GPUs make it, which start for it alone."""


@dataclass(frozen=True)
class Load:
    """What there is to do."""

    objects: int
    """That are listed and read one by one; 0 where examples are packed into files, which are few."""
    counts: dict[str, int]
    """Examples of each split."""
    undecoded: int
    """Examples that lack features."""
    decode: float
    """Seconds of a core that an example takes to be decoded."""
    object_bytes: float
    """Of an example, as it is in the source."""
    passes: int
    """Passes of an example through the frozen network."""
    pass_work: float
    """Multiply-adds of one."""
    feature_bytes: float
    """That are stored of all that lack them."""
    batch: int
    phases: Sequence[PhaseLoad]


@dataclass(frozen=True)
class ModelledStage:
    name: str
    seconds: float
    bound: str
    """What takes most of it."""
    gpus: bool
    """Whether workers hold GPUs meanwhile."""


def modelled(load: Load, kind: WorkerKind, workers: int, *, on_cpus: WorkerKind | None = None) -> list[ModelledStage]:
    """The stages of a run whose time grows with the data or with the number of workers, in their order. `on_cpus` are
    the workers of phases that need no GPU, by default the same.
    """
    stages = [listing(load, kind)]
    if load.undecoded:
        stages.append(extraction(load, kind, workers))
    for phase in load.phases:
        gpus = not phase.on_cpus
        name = "workers" if gpus else "head_workers"
        if name not in {stage.name for stage in stages}:
            stages.append(ModelledStage(name, start(kind, workers), "starting processes", gpus=gpus))
        own = on_cpus if on_cpus and phase.on_cpus else kind
        stages.append(training(load, phase, own, workers=workers))
    return stages


def listing(load: Load, kind: WorkerKind) -> ModelledStage:
    """A page is waited for beside others, and all are worked on by one core."""
    waiting = load.objects / PAGE * kind.latency / PAGES_AT_ONCE
    return _longest("listing", {"one core": load.objects * KEY, "the store's answers": waiting}, gpus=False)


def extraction(load: Load, kind: WorkerKind, workers: int) -> ModelledStage:
    """Reading, decoding, computing and storing go on side by side: the slowest of them is what it takes."""
    decoders = max(1.0, kind.cores * workers)
    parts = {
        "the network": load.passes * load.pass_work / (kind.work * workers),
        "decoding": load.undecoded * load.decode / decoders,
        "the store's answers": min(load.objects, load.undecoded) * kind.latency / (decoders * READS_AT_ONCE),
        "bytes from the store": load.undecoded * load.object_bytes / (kind.storage * workers),
        "bytes to the store": load.feature_bytes / (kind.storage * workers),
    }
    slowest = _longest("features", parts, gpus=True)
    return replace(slowest, seconds=slowest.seconds + start(kind, workers))


def training(load: Load, phase: PhaseLoad, kind: WorkerKind, *, workers: int) -> ModelledStage:
    """Epochs of steps, with the validation of each; the first epoch waits for its features where these come slower."""
    once, first = epoch(load, phase, kind, workers=workers), phase.example_bytes * sum(load.counts.values())
    reading = first / (kind.storage * busy(load, workers))
    parts = {name: seconds * phase.epochs for name, seconds in once.items()}
    parts["features from the store"] = max(0.0, reading - sum(once.values()))
    bound = max(parts, key=lambda name: parts[name])
    return ModelledStage(phase.name, sum(parts.values()), bound, gpus=not phase.on_cpus)


def epoch(load: Load, phase: PhaseLoad, kind: WorkerKind, *, workers: int) -> dict[str, float]:
    """Seconds of an epoch and its validation, by what they are spent on. A step's parts come one after another."""
    local = WorkerShare(load.batch, 0, workers).size
    steps, validated = (steps_per_epoch(load.counts[split], load.batch) for split in ("train", "validation"))
    return {
        "the network": local * (steps * (phase.forward + phase.backward) + validated * phase.forward) / kind.work,
        "steps' own cost": (steps + validated) * kind.step * crowding(kind, workers),
        "the sum of the gradients": steps * all_reduce(phase.trainable, kind, workers),
    }


def busy(load: Load, workers: int) -> int:
    """Of so many workers, those that have examples in a batch: the order of an epoch has no more streams."""
    return min(workers, stream_count(load.batch))


def all_reduce(values: int, kind: WorkerKind, workers: int) -> float:
    """Seconds of a ring: each worker sends 2 (n - 1) / n of the gradients in 2 (n - 1) messages, all at the same time
    (Patarasuk and Yuan 2009). Workers that share a machine share what it copies as well.
    """
    sent = 2 * (workers - 1) / workers * FLOAT * values
    return sent * (workers if kind.shared else 1) / kind.exchange + 2 * (workers - 1) * kind.hop


def start(kind: WorkerKind, workers: int) -> float:
    return kind.start + kind.prepare * crowding(kind, workers) + (workers - 1) * kind.another


def crowding(kind: WorkerKind, workers: int) -> float:
    """How much longer all workers together take for what each does on its own cores."""
    return max(1.0, workers / kind.shared) if kind.shared else 1.0


def _longest(name: str, parts: dict[str, float], *, gpus: bool) -> ModelledStage:
    bound = max(parts, key=lambda part: parts[part])
    return ModelledStage(name, parts[bound], bound, gpus=gpus)
