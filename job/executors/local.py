"""The local executor: one worker in this process with all of its cores; threads read and decode examples in advance."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.data.source import open_source
from job.data.sources.packed import read_shard
from job.errors import Interrupted, ThawError, TrainingError, headline
from job.executors.ahead import ahead
from job.executors.local_metrics import metrics_here
from job.executors.placement import cpus_here
from job.features.collecting import Collector, write_collected
from job.features.decode import GROUP, Decoder, Pending
from job.features.extraction import Extracted, Extraction, NewPart
from job.features.featurize import FrozenNetwork
from job.features.workload import CHUNK
from job.libraries import import_arrow
from job.run.events import Emit
from job.run.instruments import WorkerMetrics
from job.run.interrupts import Interrupts
from job.run.strategy import INTER_OP, INTER_OP_THREADS
from job.training.context import Recipe, Start
from job.training.worker import train

T = TypeVar("T")
R = TypeVar("R")
READERS = 64
"""Examples that are read at a time: a store that takes 150 ms to answer gives 400 a second."""
AHEAD_BYTES = 256 * 2**20
"""About the most bytes of decoded examples that wait for the network."""
WRITES = 2
"""Files of features that are written at a time."""


class LocalExecutor:
    """An executor with one worker in this process. `scaling.cpus_per_worker` limits its cores."""

    featurizers = 1
    scraped = 0.0

    def __init__(self, job: Job) -> None:
        self.cpus = job.scaling.cpus_per_worker or cpus_here()
        self._metrics: WorkerMetrics | None = None

    def __enter__(self) -> LocalExecutor:
        """Sets TensorFlow's numbers of threads, which it reads when it first computes anything. It needs an inter-op
        thread for each function that runs at a time: one for each decoder, and one for the network.
        """
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(self.cpus))
        os.environ.setdefault(INTER_OP_THREADS, str(max(INTER_OP, self.cpus + 1)))
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        import_arrow()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def metrics(self) -> WorkerMetrics:
        if self._metrics is None:
            self._metrics = metrics_here()
        return self._metrics

    def map(self, function: Callable[[T], R], items: Iterable[T], doing: str, *, emit: Emit) -> Iterator[R]:
        with _pool(self.cpus, "map") as pool, _errors_of(doing, ThawError):
            for done in as_completed([pool.submit(function, item) for item in items]):
                yield done.result()

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        with (
            _errors_of("Extracting features", ThawError),
            _pool(READERS, "readers") as readers,
            _pool(self.cpus, "decoders") as decoders,
            _pool(WRITES, "writers") as writers,
        ):
            network = FrozenNetwork(work, self.cpus)
            decoder = Decoder(work, decoders, encoded=2 * READERS + GROUP * self.cpus)
            packed = work.job.data.is_packed
            begun = _records(work, decoder) if packed else _objects(work, decoder, readers)
            collector, writing = Collector(), deque[Future[None]]()

            def store(files: list[list[NewPart]], most: int) -> None:
                """Returns when at most so many files are being written."""
                for new in [*files, None]:
                    while len(writing) > most or (writing and writing[0].done()):
                        writing.popleft().result()
                    if new is not None:
                        writing.append(writers.submit(write_collected, work.store, new))

            try:
                for pending in ahead(begun, _chunks_ahead(work)):
                    decoded = pending()
                    store(collector.add(network.parts(decoded)), WRITES)
                    yield Extracted(decoded.done, decoded.gone)
            except KeyboardInterrupt:  # the run is asked to end: what is computed is kept
                store(collector.rest(), 0)
                raise
            store(collector.rest(), 0)

    def train(self, recipe: Recipe, interrupts: Interrupts, emit: Emit) -> None:
        context = _Alone(self.cpus, self.metrics, emit)
        with interrupts.passed_to(lambda over: context.stop.set()), _errors_of("Training", TrainingError):
            try:
                train(recipe, context)
            except Interrupted as error:
                raise interrupts.interrupted("a checkpoint of this step is kept") from error

    def call(self, function: Callable[..., R], *args: Any) -> R:
        return function(*args)


class _Alone:
    """The context of a single worker in the process of the run."""

    rank = local_rank = 0
    world_size = local_world_size = 1

    def __init__(self, cpus: int, metrics: WorkerMetrics, emit: Emit) -> None:
        self.cpus, self.metrics, self.emit = cpus, metrics, emit
        self.stop = threading.Event()

    def from_first(self, value: Any) -> Any:
        return value

    def start(self, checkpoint: str) -> Start:
        return Start()

    def is_over(self) -> bool:
        return False

    def end(self) -> None:
        pass

    def listen(self) -> threading.Event:
        return self.stop

    def leave(self, why: str) -> None:
        """Ends the process: nothing else ends what it waits for."""
        sys.stderr.write(f"thaw: {why}. Running again goes on from the latest checkpoint.\n")
        sys.stderr.flush()
        os._exit(TrainingError.exit_code)


def _objects(work: Extraction, decoder: Decoder, readers: ThreadPoolExecutor) -> Iterator[Pending]:
    for number in range(len(work.chunks)):
        yield decoder.begin_chunk(number, readers)


def _records(work: Extraction, decoder: Decoder) -> Iterator[Pending]:
    """The records of the shards that lack features, shard by shard, in chunks."""
    source = open_source(work.job)
    for shard, version in sorted(dict(work.chunks).items()):
        positions: list[int] = []
        encoded: list[bytes] = []
        for record in read_shard(work.job.data, source, shard, version=version):
            assert record.position is not None
            positions.append(record.position)
            encoded.append(record.encoded)
            if len(positions) == CHUNK:
                yield decoder.begin_records(shard, positions, encoded)
                positions, encoded = [], []
        if positions:
            yield decoder.begin_records(shard, positions, encoded)


def _chunks_ahead(work: Extraction) -> int:
    form = form_of(work.job)
    each = int(np.prod(form.shape)) * np.dtype(form.dtype).itemsize
    return int(np.clip(AHEAD_BYTES // (CHUNK * each), 1, 8))


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. Where an error leaves the block, pending work is cancelled, and running work not waited
    for.
    """
    pool = ThreadPoolExecutor(threads, name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _errors_of(doing: str, kind: type[ThawError]) -> Iterator[None]:
    """Turns unexpected errors into an error of this kind, in one line. Errors of disks are handled elsewhere."""
    try:
        yield
    except (ThawError, OSError):
        raise
    except Exception as error:
        raise kind(f"{doing} failed: {headline(error)} (--debug shows where).") from error
