"""Work, parameters and memory of the phases, by arithmetic alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from job.config import GLOVE, FineTunePhase, HeadPhase, Job, Optimization, UnfreezeAuto
from job.data.order import WorkerShare
from job.features.cache_plan import Plan
from job.model.anatomy import Anatomy
from job.run.memory import memory_now

ENCODER_UNITS = 128
BEST_EPOCH = 8
"""The epoch of the head that is assumed to be its best: that of the demo."""
DEPTHS = 2
"""Blocks that `unfreeze: auto` is assumed to try: one that helps, and one that does not."""
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Values that an optimizer keeps for each parameter."""
PREFETCHED = 5
"""Batches in memory: the step's, and those read ahead."""
PROCESS = 800 * 2**20
"""Bytes of a worker in which TensorFlow, Keras and Ray are imported and nothing is built."""


@dataclass(frozen=True)
class Range:
    low: float
    likely: float
    high: float

    def scaled(self, factor: float) -> Range:
        return Range(self.low * factor, self.likely * factor, self.high * factor)

    def plus(self, more: float) -> Range:
        return Range(self.low + more, self.likely + more, self.high + more)

    @staticmethod
    def total(ranges: Sequence[Range]) -> Range:
        return Range(sum(r.low for r in ranges), sum(r.likely for r in ranges), sum(r.high for r in ranges))

    def within(self, low: float, high: float) -> Range:
        """Known up to these factors."""
        return Range(self.low * low, self.likely, self.high * high)


@dataclass(frozen=True)
class PhaseCosts:
    """Work is in multiply-adds per example of the train split; validation takes `forward` alone."""

    name: str
    trainable: int | None
    """Parameters; None where that depends on the words of the texts."""
    forward: int
    backward: int
    epochs: Range
    assumes: str
    """What the likely number of epochs goes by."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one worker at the most; `process` is there before anything is built."""

    process: int
    parameters: int
    optimizer: int
    gradients: int
    checkpoints: int
    activations: int
    batches: int
    features: int
    """Stored features that are mapped from disk, of one node: the system takes their pages back where it needs them."""

    @property
    def held(self) -> int:
        """The sum, without what can be taken back."""
        parts = self.parameters + self.optimizer + self.gradients + self.checkpoints + self.activations + self.batches
        return self.process + parts


def memory_here() -> int:
    """Bytes of this machine, or of its container where that has less."""
    memory = memory_now()
    return memory.total if memory else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def head_layers(job: Job, features: int, classes: int) -> tuple[int, int]:
    """Parameters of the head, and its multiply-adds per example."""
    parameters = work = 0
    width, words = features, job.model.max_tokens
    if job.task == "text" and job.model.encoder != "mean":
        vector = features // words
        if job.model.encoder == "conv":
            parameters, work = 3 * vector * ENCODER_UNITS + ENCODER_UNITS, words * 3 * vector * ENCODER_UNITS
        else:  # a GRU's three gates, with two biases each
            kernels = 3 * ENCODER_UNITS * (vector + ENCODER_UNITS)
            parameters, work = kernels + 6 * ENCODER_UNITS, words * kernels
        width = ENCODER_UNITS
    for units in (*job.model.head.hidden, classes):
        parameters, work, width = parameters + (width + 1) * units, work + width * units, units
    return parameters, work


def phases(
    job: Job, plan: Plan, anatomy: Anatomy, *, classes: int, last_epochs: dict[str, int], words: int | None
) -> list[PhaseCosts]:
    """`last_epochs` are those that the last run made, by phase; `words` is how many words' vectors train, of glove."""
    parameters, work = head_layers(job, plan.features, classes)
    costs = [PhaseCosts("head", parameters, work, 2 * work, *_epochs(job.phases.head, last_epochs.get("head")))]
    if job.phases.fine_tune is not None:
        thawed: int | None = anatomy.trainable
        if job.model.backbone == GLOVE:
            vectors = 1 if job.model.encoder == "mean" else job.model.max_tokens  # that a text's features are made of
            thawed = None if words is None else words * (plan.features // vectors)
        trainable = None if thawed is None else parameters + thawed
        forward, backward = anatomy.work - anatomy.below + work, anatomy.backward + 2 * work
        epochs = _epochs(job.phases.fine_tune, last_epochs.get("fine_tune"))
        costs.append(PhaseCosts("fine_tune", trainable, forward, backward, *epochs))
    return costs


def memory(job: Job, plan: Plan, anatomy: Anatomy, *, phase: PhaseCosts, stored: int) -> MemoryNeed:
    """Memory of the phase that takes most; `stored` are the bytes of all features that training reads."""
    local, trained, item = local_batch(job), phase.trainable or 0, 4
    settings: Optimization | None = getattr(job.phases, phase.name)
    slots = SLOTS[settings.optimizer] if settings else 0
    frozen = anatomy.parameters - (anatomy.trainable if phase.name == "fine_tune" else 0)
    kept = anatomy.kept if phase.name == "fine_tune" else 0
    wide = 2 if job.train.precision == "mixed_bfloat16" else 4
    read = math.prod(plan.shape) if plan.cut else job.model.image_size**2 * 3 if job.task == "image" else 0
    return MemoryNeed(
        process=PROCESS,
        parameters=item * (frozen + trained),
        optimizer=item * slots * trained,
        gradients=2 * item * trained,  # each on its own, and all of them in one for the exchange
        checkpoints=item * (2 + slots) * trained,  # the latest and the best, and the optimizer's slots
        activations=2 * wide * kept * local,  # and their gradients
        batches=PREFETCHED * item * max(read, plan.features) * local,
        features=stored,
    )


def local_batch(job: Job) -> int:
    """Examples of a worker's step."""
    return WorkerShare(job.train.batch_size, 0, job.scaling.max_workers).size


def _epochs(settings: HeadPhase | FineTunePhase, last: int | None) -> tuple[Range, str]:
    """How many the phase makes, and what the likely number goes by; `last` is how many the last run made."""
    most, waits = settings.epochs, settings.patience
    low = min(waits + 1, most) if waits else most
    if isinstance(settings, HeadPhase):
        likely = BEST_EPOCH + settings.patience
        assumes = f"epoch {BEST_EPOCH} is the best, as in the demo, then patience"
    elif isinstance(settings.unfreeze, UnfreezeAuto):
        blocks = settings.unfreeze.auto.max_blocks
        tried, most = min(DEPTHS, blocks), blocks * most
        likely, assumes = tried * settings.epochs, f"{tried} of at most {blocks} blocks are tried"
    elif low == most:
        return Range(most, most, most), "phases.fine_tune.patience is not set: all epochs"
    else:
        likely, assumes = most, "patience is never reached"
    if last is not None:
        likely, assumes = last, f"as many epochs as the last run made ({last})"
    return Range(low, min(max(likely, low), most), most), assumes
