"""What this machine needs for the steps of a run, measured in this process with the run's own parts.

A few of the source's examples are decoded and go through the frozen layers as in an embedded run; on the features that
come of them, repeated, the run's trainer makes a few short epochs.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.errors import ClusterError, headline
from job.executors.placement import cpus_here, is_here, worker_cpus
from job.features.decode import GROUP, Decoder
from job.features.extraction import Decoded, Extraction, NewPart
from job.features.featurize import BATCH, FrozenNetwork
from job.features.store import ADDRESS
from job.libraries import import_tensorflow
from job.planning.costs import PhaseCosts, local_batch, memory_here
from job.planning.epochs import EPOCHS, ShortRun, shortened, time_epochs
from job.run.strategy import precision
from job.storage import Store

if TYPE_CHECKING:
    from job.planning.planned import PlannedNetwork, PlannedRun

BUDGET = 20.0
"""Seconds of calibration that what is repeated is chosen for; imports and compilation come on top."""
LONGEST = 3.0
"""Seconds that a step may take by its multiply-adds; a longer one is measured on fewer examples."""
REPEATS = 4
STEPS = 32
"""Steps of a measured epoch, at most."""
BYTES = 64 * 2**20
"""Bytes of features that a measured phase reads, at most, where that leaves it a step."""
EXAMPLES = 32
"""Real examples that are measured with."""
EPOCH = 0.05
"""Seconds of each epoch beside its steps: the proof of its order, its history, what is told of it."""
KEPT = 8
"""Bytes of a value that a step keeps, and of its gradient."""
EXCHANGE = 250e6
"""Bytes a second at which workers are assumed to exchange gradients, which is not measured."""


class Share(NamedTuple):
    """What of a step is measured: the part of so many examples, on so many cores."""

    cores: int
    batch: int
    assumed: str
    """What is assumed of the workers of the run, where there are several."""


@dataclass(frozen=True)
class PhaseSpeeds:
    """Seconds."""

    step: float
    """The step of a batch."""
    predict: float
    """A batch that is validated."""
    compile: float
    """The time that a phase takes beside its epochs."""


@dataclass(frozen=True)
class Speeds:
    """Seconds."""

    decode: float
    """An example."""
    network: float
    """An example through the frozen network, in one view."""
    start: float
    """Until a worker's process is ready: TensorFlow's import and the network."""
    head: PhaseSpeeds
    fine_tune: PhaseSpeeds | None
    took: float
    notes: tuple[str, ...]


class TimedExtraction(NamedTuple):
    """What the frozen layers make of the examples, and the seconds that it took."""

    features: dict[str, NewPart]
    """By the tap of the network."""
    decode: float
    network: float
    """A pass of an example."""
    built: float
    """Until the network was ready."""


def measured_share(job: Job) -> Share:
    """Workers of this machine share its cores: one process with the cores of all makes their steps. A worker that has
    a machine or a GPU of its own is measured alone.
    """
    workers, each = job.scaling.max_workers, worker_cpus(job)
    if is_here() and not job.scaling.gpu:
        cores, batch = min(cpus_here(), workers * each), job.train.batch_size
        assumed = f"measured in one process: {workers} workers are assumed to be as fast on the same {cores} cores"
    else:
        cores, batch = each, local_batch(job)
        assumed = f"one worker was measured: {workers} are assumed to be as fast side by side"
    assumed += f", and to exchange gradients at {EXCHANGE / 1e6:g} MB/s"
    return Share(cores, batch, assumed if workers > 1 else "")


def calibrated(
    run: PlannedRun,
    phases: list[PhaseCosts],
    store: Store,
    *,
    network: PlannedNetwork,
    encoded: list[bytes],
    classes: int,
) -> tuple[Speeds | None, str]:
    """What was measured with `encoded` examples, or why nothing was; `store` has the base weights."""
    if not encoded:
        return None, "none of the sampled examples can be decoded: nothing was measured"
    try:
        imported = network.imported
    except ClusterError:
        return None, "scaling.gpu: true, and this machine has no GPU: nothing was measured"
    try:
        return _calibrated(run, phases, store, imported=imported, encoded=encoded, classes=classes), ""
    except Exception as error:  # for the memory of a GPU, say; all else of the plan is known
        return None, f"a worker's steps can't be made here: {headline(error)}: nothing was measured"


def _calibrated(
    run: PlannedRun, phases: list[PhaseCosts], store: Store, *, imported: float, encoded: list[bytes], classes: int
) -> Speeds:
    """`imported` is how long the imports of a worker take, in seconds."""
    import_tensorflow()
    from job.model.networks import base_of_store, with_head

    began, job, share = time.monotonic(), run.job, measured_share(run.job)
    frozen, notes = _extract(run, store, encoded, cores=share.cores), [share.assumed] if share.assumed else []
    speeds: dict[str, PhaseSpeeds] = {}
    with precision(job):
        network = with_head(job, base_of_store(job, store, run.base), classes)
        for phase in phases:
            short = _short_run(run, frozen, share.batch, phase=phase.name)
            if (batch := short.job.train.batch_size) < share.batch:
                notes.append(f"a fine-tuning step was measured on {batch} of its {share.batch} examples")
            epochs = time_epochs(short, network)
            # A batch of the validation split counts with its multiply-adds: the forward ones.
            forward = phase.forward / max(1, phase.forward + phase.backward)
            step = max(0.0, epochs.each - EPOCH) / (short.steps + forward) * share.batch / batch
            speeds[phase.name] = PhaseSpeeds(step, step * forward, epochs.once)
    if (load := os.getloadavg()[0]) > (cores := os.cpu_count() or 1) + 1:  # of the whole machine, both
        notes.append(f"this machine is busy (load {load:.1f} on {cores} cores): an idle one is faster")
    start = (imported + frozen.built) * (max(1.0, job.scaling.max_workers / cpus_here()) if is_here() else 1.0)
    return Speeds(
        decode=frozen.decode,
        network=frozen.network,
        start=start,
        head=speeds["head"],
        fine_tune=speeds.get("fine_tune"),
        took=time.monotonic() - began,
        notes=tuple(notes),
    )


def _extract(run: PlannedRun, store: Store, encoded: list[bytes], *, cores: int) -> TimedExtraction:
    """Decodes and featurizes, in the plain view and another one where there are more."""
    featurizers = [featurizer for featurizer in run.wanted if featurizer.view <= 1]
    # Of the same size as float16, and no activation is too large for it.
    featurizers = [
        replace(featurizer, dtype="bfloat16") if featurizer.dtype == "float16" else featurizer
        for featurizer in featurizers
    ]
    work = Extraction(run.job, "", run.base, featurizers, [], store)
    inputs, decode = _decode(work, encoded, cores)
    began = time.perf_counter()
    size = int(np.clip(LONGEST / (run.plan.seconds_whole or 1e-9), 1, BATCH))
    frozen = FrozenNetwork(work, cores, size)
    built = time.perf_counter() - began
    batch = Decoded(
        inputs=np.resize(inputs, (size, *inputs.shape[1:])),
        addresses=np.zeros(size, ADDRESS),
        hashes=np.arange(size, dtype=np.uint64),
        needs=np.ones((size, len(featurizers)), np.bool_),
        rejects=[],
        gone={},
        done=size,
    )
    parts, taken = frozen.parts(batch), list[float]()  # the first pass compiles
    while len(taken) < REPEATS and sum(taken) < BUDGET / 4:
        began = time.perf_counter()
        frozen.parts(batch)
        taken.append(time.perf_counter() - began)
    views = len({featurizer.view for featurizer in featurizers})
    features = {part.featurizer.tap: part for part in reversed(parts)}  # of the plain view
    return TimedExtraction(features, decode, mean(taken) / (size * views), built)


def _decode(work: Extraction, encoded: list[bytes], cores: int) -> tuple[np.ndarray, float]:
    """What the network takes, without what can't be decoded after all; and seconds an example on these cores."""
    groups = [encoded[at : at + GROUP] for at in range(0, len(encoded), GROUP)]
    times = -(-2 * cores // len(groups))  # at least two groups for each core
    with ThreadPoolExecutor(cores) as pool:
        decoder = Decoder(work, pool, encoded=len(encoded))
        decoder.inputs(groups[0])  # compiles
        began = time.perf_counter()
        decoded = list(pool.map(decoder.inputs, groups * times))
        taken = time.perf_counter() - began
    inputs = [one for group in decoded for one in group if isinstance(one, np.ndarray)]
    form = form_of(work.job)
    return np.stack(inputs) if inputs else np.zeros((1, *form.shape), form.dtype), taken / (times * len(encoded))


def _short_run(run: PlannedRun, frozen: TimedExtraction, batch: int, *, phase: str) -> ShortRun:
    """As many examples a step and steps an epoch as the time and the memory of this machine allow."""
    anatomy, pooled, inputs, example = run.anatomy, frozen.features["pooled"], None, 0.0
    if phase == "fine_tune":
        inputs = frozen.features[run.plan.cut or form_of(run.job).tap]
        example = frozen.network * (anatomy.work - anatomy.below + anatomy.backward) / max(1, anatomy.work)
        room = memory_here() / 2 / (KEPT * max(1, anatomy.kept))
        batch = int(np.clip(min(LONGEST / max(example, 1e-9), room), 1, batch))
    width = sum(part.featurizer.bytes_per_example for part in (pooled, inputs) if part)
    steps = np.clip(min(BYTES / (batch * width) - 1, BUDGET / 2 / EPOCHS / max(batch * example, 1e-9)), 1, STEPS)
    return ShortRun(shortened(run.job, batch, anatomy.thawed), pooled, inputs, run.plan.cut, int(steps))
