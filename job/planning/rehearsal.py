"""A few training steps of a run, as it makes them: by as many processes as this machine would have workers, which wait
for each other and exchange their gradients."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from job.config import Job
from job.errors import ClusterError
from job.executors.placement import worker_cpus
from job.executors.ray.cluster import set_environment
from job.features.cache_plan import Plan
from job.libraries import DEBUG
from job.run.strategy import free_addresses, join_group, make_strategy, precision, prepare_process
from job.storage import open_store
from job.storage.read_only import OverlayStore

if TYPE_CHECKING:
    import tensorflow as tf

    from job.model.network import Network

HEAD_STEPS = 16
"""Steps of the head that are made in one call, as in training."""
PATIENCE = 300.0
"""Seconds after which the processes are given up."""
ENDING = 10.0
"""Seconds in which a process that failed ends."""


@dataclass(frozen=True)
class PhaseSpeeds:
    step: float
    predict: float
    """A batch of one worker."""
    compile: float
    """The first step and the first prediction, beyond what others take."""

    def scaled(self, examples: float, others: float = 1.0) -> PhaseSpeeds:
        """With so many times the examples, on a processor that so many times the processes share."""
        return PhaseSpeeds(self.step * examples * others, self.predict * examples * others, self.compile * others)


@dataclass(frozen=True)
class Rehearsal:
    """What is played: the head on random features, and fine-tuning on `inputs`."""

    job: Job
    plan: Plan
    classes: int
    pooled: np.ndarray
    """float32 [batch of one worker, features]."""
    inputs: np.ndarray | None
    """[n, …], what is stored at the cut or decoded, of n examples of that batch or fewer; None where nothing is
    fine-tuned."""
    repeats: int
    """How often each call is made after its first time."""


@dataclass(frozen=True)
class Played:
    """Seconds, of the slowest process."""

    start: float
    """From the start of the processes to their networks."""
    head: PhaseSpeeds
    fine_tune: PhaseSpeeds | None

    def shared(self, others: float) -> Played:
        """On a processor that so many times the processes share."""
        fine_tune = self.fine_tune and self.fine_tune.scaled(1.0, others)
        return Played(self.start * others, self.head.scaled(1.0, others), fine_tune)


def rehearse(rehearsal: Rehearsal, devices: list[str | None], folder: str) -> Played:
    """`devices` are the GPUs of the processes, as CUDA_VISIBLE_DEVICES names them, or None for each that has none;
    `folder` is that of the overlay over the job's store. Raises ClusterError where a process fails or is killed.
    """
    set_environment()
    context = multiprocessing.get_context("spawn")
    addresses = free_addresses("127.0.0.1", len(devices))
    began = time.monotonic()
    running, pipes = [], []
    try:
        for rank, device in enumerate(devices):
            pipe, theirs = context.Pipe(duplex=False)
            arguments = rehearsal, folder, addresses, rank, device, theirs
            process = context.Process(target=_process, args=arguments, daemon=True)
            process.start()
            theirs.close()
            running.append(process)
            pipes.append(pipe)
        started = max(_answer(pipe, pipes, running, folder, began) for pipe in pipes) - began
        played = [_answer(pipe, pipes, running, folder, began) for pipe in pipes]
    finally:
        for process in running:
            process.kill()
            process.join()
    heads, fine_tunes = zip(*played, strict=True)
    return Played(started, _slowest(heads), None if None in fine_tunes else _slowest(fine_tunes))


def _slowest(found: tuple[PhaseSpeeds, ...]) -> PhaseSpeeds:
    return PhaseSpeeds(*(max(getattr(one, name) for one in found) for name in ("step", "predict", "compile")))


def _answer(pipe: Connection, pipes: list[Connection], running: list[Any], folder: str, began: float) -> Any:
    """What a process sends next; none of them ends by itself. Raises ClusterError."""
    sentinels = [process.sentinel for process in running]
    ready = wait([pipe, *sentinels], timeout=max(0.0, began + PATIENCE - time.monotonic()))
    if not ready:
        raise ClusterError(f"the workers' steps took more than {PATIENCE:g} s")
    with suppress(EOFError):
        if ready == [pipe]:
            return pipe.recv()
    ended = wait(sentinels, timeout=ENDING)  # one that can't end, waiting for the others, has said why before
    ranks = [sentinels.index(one) for one in ended] or [pipes.index(pipe)]
    for rank in ranks:
        running[rank].join(ENDING)  # its sentinel comes before its exit code
    raise ClusterError(_why(running, folder, min(ranks, key=lambda rank: running[rank].exitcode or 0)))


def _why(running: list[Any], folder: str, rank: int) -> str:
    """A process failed, or was killed: then the others fail because of it."""
    if (code := running[rank].exitcode) is not None and code < 0:
        return (
            f"a worker's steps can't be made here: it was killed ({signal.Signals(-code).name}), perhaps for its memory"
        )
    log = _log(folder, rank)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = next((line.strip() for line in reversed(lines) if line.strip()), "it did not say why")
    return f"a worker's steps can't be made here: {told}"


def _process(
    rehearsal: Rehearsal, folder: str, addresses: list[str], rank: int, device: str | None, pipe: Connection
) -> None:
    """The whole of one process."""
    _end_with_parent()
    with _log(folder, rank).open("wb") as log:
        os.dup2(log.fileno(), 1)  # standard output is for the plan
        if not os.environ.get(DEBUG):
            os.dup2(log.fileno(), 2)
    if len(addresses) > 1:
        join_group(addresses, rank)
    job = rehearsal.job
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    from job.model.networks import with_head
    from job.run.identity import prepare_base

    prepare_process(job, worker_cpus(job))
    strategy = make_strategy(job, len(addresses))
    with precision(job):
        base = prepare_base(job, OverlayStore(open_store(job.store, job.storage), folder), lambda kind, **fields: None)[
            1
        ]
        network = with_head(job, base, rehearsal.classes)
        pipe.send(time.monotonic())
        pipe.send(_play(rehearsal, network, strategy, rank))
    threading.Event().wait()  # the others may still be at work with it


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _log(folder: str, rank: int) -> Path:
    return Path(folder, f".rehearsal-{rank}.txt")


def _play(
    rehearsal: Rehearsal, network: Network, strategy: tf.distribute.Strategy, rank: int
) -> tuple[PhaseSpeeds, PhaseSpeeds | None]:
    """The speeds of the head, and of fine-tuning."""
    from job.model.freezing import freeze, thaw
    from job.training.factory import fine_tune_forward, head_forward, trainable

    job, repeats = rehearsal.job, rehearsal.repeats
    freeze(network.model)
    for layer in network.head.layers:
        layer.trainable = True
    made = head_forward(job, network.head), trainable(network.head), False
    head = _timed(*_steps(job, "head", *made, rehearsal.pooled, strategy, rank, HEAD_STEPS), HEAD_STEPS, repeats)
    if rehearsal.inputs is None or job.phases.fine_tune is None:
        return head, None
    thaw(network.base, job.phases.fine_tune.unfreeze)
    forward, jit_compile = fine_tune_forward(job, network, rehearsal.plan.cut)
    steps = _steps(
        job, "fine_tune", forward, trainable(network.model), jit_compile, rehearsal.inputs, strategy, rank, 1
    )
    return head, _timed(*steps, 1, repeats).scaled(len(rehearsal.pooled) / len(rehearsal.inputs))


def _steps(
    job: Job,
    phase: str,
    forward: Any,
    variables: dict[str, Any],
    jit_compile: bool,
    inputs: np.ndarray,
    strategy: tf.distribute.Strategy,
    rank: int,
    count: int,
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What makes `count` training steps on these inputs, and what predicts them once."""
    import tensorflow as tf

    from job.training.control import VOTES
    from job.training.optimization import make_optimizer
    from job.training.step import StepInputs, make_predict_steps, make_train_steps

    settings, size = getattr(job.phases, phase), len(inputs)
    batch = inputs, np.zeros(size, np.int32), np.full(size, 1 / size, np.float32), np.arange(size, dtype=np.int32)
    data = tf.data.Dataset.from_tensors((*batch, np.zeros(2, np.int64))).repeat()
    spec = tf.data.IteratorSpec(data.element_spec)
    optimizer, smoothing = make_optimizer(settings, phase, variables), settings.label_smoothing
    train = make_train_steps(
        strategy, spec, forward=forward, optimizer=optimizer, jit_compile=jit_compile, smoothing=smoothing
    )
    predict = make_predict_steps(strategy, spec, forward=forward, rank=rank)
    given = StepInputs(tf.zeros([count]), tf.zeros([count, 2], tf.int32), tf.zeros([VOTES]))
    return lambda: train(iter(data), given), lambda: predict(iter(data), tf.constant(1))


def _timed(train: Callable[[], Any], predict: Callable[[], Any], count: int, repeats: int) -> PhaseSpeeds:
    """`train` makes `count` steps."""
    first = seconds(train, 1) + seconds(predict, 1)
    step, predicted = seconds(train, repeats), seconds(predict, repeats)
    return PhaseSpeeds(step / count, predicted, max(0.0, first - step - predicted))


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of one call, as the mean of `repeats`."""
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats
