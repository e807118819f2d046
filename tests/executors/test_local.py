"""Everything in one process: what it does side by side, and how its errors come out. No TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from job.config.jobfile import parse_job
from job.errors import DataError, Interrupted, NotFinite, StorageError, ThawError, TrainingError
from job.executors import local
from job.executors.local import LocalExecutor
from job.features import collecting
from job.features.extraction import Decoded, Extraction, NewPart
from job.features.store import ADDRESS
from job.model.resolved import ResolvedBase
from job.run.events import Noted
from job.run.interrupts import Interrupts
from job.storage import open_store
from support.shards import fill
from support.stored import POOLED

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH")


def executor(cpus: int = 2) -> LocalExecutor:
    text = f"scaling: {{cpus_per_worker: {cpus}}}}}"
    return LocalExecutor(parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', " + text))


def nothing(kind: str, **event: Any) -> None:
    pass


def test_tensorflow_gets_the_cores_of_the_worker_unless_someone_has_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(THREADS[2], "false")
    with executor(3):
        assert [os.environ[name] for name in THREADS] == ["3", "4", "false"]


def test_a_function_maps_over_items_side_by_side() -> None:
    both = threading.Barrier(2)

    def square(number: int) -> int:
        both.wait(30)
        return number**2

    assert sorted(executor().map(square, range(6), "Squaring", emit=nothing)) == [0, 1, 4, 9, 16, 25]
    assert list(executor().map(square, [], "Squaring", emit=nothing)) == []


@pytest.mark.parametrize("raised", [DataError("no such column"), StorageError("away"), OSError(28, "No space left")])
def test_an_error_that_is_known_comes_out_as_it_was_raised(raised: Exception) -> None:
    def fail(item: int) -> None:
        raise raised

    with pytest.raises(type(raised)) as caught:
        list(executor().map(fail, [1], "Reading", emit=nothing))
    assert caught.value is raised


def test_an_error_that_nobody_expects_is_one_line() -> None:
    def fail(item: int) -> None:
        raise ValueError("bad\nand much more of it")

    with pytest.raises(ThawError) as caught:
        list(executor().map(fail, [1], "Reading the packed files", emit=nothing))
    assert str(caught.value) == "Reading the packed files failed: ValueError: bad (--debug shows where)."
    assert caught.value.exit_code == 1


def test_after_an_error_nothing_more_is_begun_and_nobody_waits_for_the_rest() -> None:
    begun: list[int] = []
    waits, over = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            waits.set()
            over.wait(60)
        elif number == 1:
            assert waits.wait(30)
            raise DataError("bad")
        else:
            time.sleep(0.05)

    try:
        with pytest.raises(DataError):
            list(executor().map(work, range(2000), "Reading", emit=nothing))
        assert not over.is_set()
        assert len(begun) < 1000
    finally:
        over.set()


def test_what_is_asked_of_a_network_is_asked_here() -> None:
    assert executor().call(divmod, 7, 3) == (2, 1)
    assert (executor().featurizers, executor().scraped) == (1, 0.0)


def training(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """`work` in place of the training; with signals, as a run has them."""
    monkeypatch.setattr(local, "train", work)
    with Interrupts() as interrupts:
        executor().train(SimpleNamespace(), interrupts, nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "kind", "text", "code"),
    [
        (NotFinite("head: the loss is not finite"), NotFinite, "head: the loss is not finite", 5),
        (StorageError("away"), StorageError, "away", 4),
        (IndexError("7\nof 3"), TrainingError, "Training failed: IndexError: 7 (--debug shows where).", 5),
    ],
)
def test_errors_of_training_have_their_exit_codes(
    raised: Exception, kind: type[ThawError], text: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(recipe: Any, context: Any) -> None:
        raise raised

    with pytest.raises(kind) as caught:
        training(monkeypatch, work)
    assert (str(caught.value), caught.value.exit_code) == (text, code)


def test_training_is_asked_to_stop_by_a_signal_and_ends_once_a_checkpoint_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[str] = []

    def work(recipe: Any, context: Any) -> None:
        stop = context.listen()
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(30)
        kept.append("checkpoint")
        raise Interrupted("stopped")

    with pytest.raises(Interrupted, match="Stopped by SIGTERM: a checkpoint of this step is kept") as caught:
        training(monkeypatch, work)
    assert (kept, caught.value.exit_code) == (["checkpoint"], 143)


def test_a_worker_alone_is_all_of_its_group() -> None:
    said: list[str] = []
    alone = local._Alone(3, executor().metrics, lambda event: said.append(event.kind))
    assert (alone.rank, alone.world_size, alone.local_rank, alone.local_world_size, alone.cpus) == (0, 1, 0, 1, 3)
    assert alone.from_first("value") == "value"
    start = alone.start("head-1")
    assert (start.pause, start.refused, start.noticed, alone.is_over()) == (0.0, "", None, False)
    alone.end()
    alone.emit(Noted("x"))
    assert said == ["note"]


def test_a_worker_that_stands_still_ends_the_process_with_a_line() -> None:
    """Also while other threads go on, and `finally` blocks wait for what never comes."""
    code = """
import threading
from job.executors.local import _Alone
threading.Thread(target=threading.Event().wait).start()
try:
    _Alone(1, None, None).leave("worker 0 made no step for 600 s and is ended")
finally:
    threading.Event().wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == TrainingError.exit_code
    assert done.stderr == (
        "thaw: worker 0 made no step for 600 s and is ended. Running again goes on from the latest checkpoint.\n"
    )


def extraction(folder: Path, layout: str = "folders", chunks: int = 0) -> Extraction:
    text = f"{{name: any, data: {{source: 'file://{folder}/source/', layout: {layout}}}, store: 'file://{folder}/s/'}}"
    job = parse_job(text)
    return Extraction(job, "run", ResolvedBase("0" * 64), [], [("", "1")] * chunks, open_store(job.store))


def decoded_of(number: int) -> Decoded:
    gone = {f"key {number}": "deleted"} if number == 2 else {}
    none = np.zeros(0, ADDRESS)
    return Decoded(np.zeros((1, 2, 2, 3), np.uint8), none, none, none, [], gone, 10 + number)


class Stages:
    """Stand-ins for the decoder, the network and the store, which note what they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[int] = []
        self.fails_at: int | None = None
        monkeypatch.setattr(local, "Decoder", lambda work, decoders, encoded: self)
        monkeypatch.setattr(local, "FrozenNetwork", lambda work, cpus: self)
        monkeypatch.setattr(local, "write_collected", self.write)
        monkeypatch.setattr(collecting, "FILE_BYTES", 3 * 8)

    def begin_chunk(self, number: int, pool: Any) -> Any:
        return lambda: decoded_of(number)

    def parts(self, decoded: Decoded) -> list[NewPart]:
        """The value is the number of the chunk's examples."""
        return [NewPart(POOLED, np.zeros(1, ADDRESS), np.array([[decoded.done]]), [])]

    def write(self, store: Any, new: list[NewPart]) -> None:
        numbers = [int(part.values[0, 0]) for part in new]
        if self.fails_at in numbers:
            raise StorageError("away")
        time.sleep(0.01)
        self.written += numbers


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(monkeypatch)


def extracted(work: Extraction, stages: Stages) -> Iterator[int]:
    for one in executor().extract(work, nothing):
        assert one.gone == ({"key 2": "deleted"} if one.done == 12 else {})
        yield one.done


def test_every_chunk_is_extracted_once_and_stored_at_the_end_of_the_stage(tmp_path: Path, stages: Stages) -> None:
    """Three chunks become a file; the last two another one."""
    assert list(extracted(extraction(tmp_path, chunks=32), stages)) == list(range(10, 42))
    assert sorted(stages.written) == list(range(10, 42))


def test_a_store_that_fails_while_features_are_written_ends_the_stage(tmp_path: Path, stages: Stages) -> None:
    stages.fails_at = 15
    found: list[int] = []
    with pytest.raises(StorageError, match="away"):
        found.extend(extracted(extraction(tmp_path, chunks=30), stages))
    assert 15 not in stages.written
    assert len(stages.written) < 30


def test_the_records_of_a_packed_file_are_decoded_in_batches_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CHUNK", 8)
    work = extraction(tmp_path, "webdataset")
    source = open_store(work.job.data.source)
    content = fill(source, "webdataset", shard_count=2, rows=19)
    versions = [(info.key, info.version) for info in source.list()]
    begun: list[tuple[str, list[int], list[bytes]]] = []
    decoder = SimpleNamespace(begin_records=lambda shard, at, encoded: begun.append((shard, at, encoded)))
    work.chunks.extend([*versions, versions[0]])  # a packed file may have several chunks, and is read once
    assert len(list(local._records(work, decoder))) == 6  # type: ignore[arg-type]
    assert [(shard, len(at)) for shard, at, _ in begun] == [
        (shard, count) for shard, rows in content.items() for count in (8, 8, len(rows) - 16)
    ]
    for shard, rows in content.items():
        found = {
            place: one for name, at, encoded in begun if name == shard for place, one in zip(at, encoded, strict=True)
        }
        assert found == {place: image for place, (image, _) in enumerate(rows)}


@pytest.mark.parametrize(("size", "chunks"), [(32, 8), (224, 6), (2048, 1)])
def test_large_pictures_are_not_many_in_memory(size: int, chunks: int, tmp_path: Path) -> None:
    work = extraction(tmp_path)
    job = work.job.model_copy(update={"model": work.job.model.model_copy(update={"image_size": size})})
    assert local._chunks_ahead(Extraction(job, "run", work.base, [], [], work.store)) == chunks
