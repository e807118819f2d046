"""Encoded examples become inputs of the network, or reasons why they can't."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from job.config.jobfile import parse_job
from job.data.forms import text_form
from job.data.sources.packed import join_key
from job.errors import ObjectMissing, StorageError
from job.features.decode import GONE, GROUP, Decoder
from job.features.extraction import Extraction
from job.features.store import ADDRESS
from job.features.workload import write_work
from job.model.resolved import ResolvedBase
from job.storage import Store, open_store
from job.storage.run_keys import RunKeys
from support.images import picture
from support.stored import POOLED, examples_of

RUN = "run"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def extraction(folder: Path, *settings: str) -> Extraction:
    text = f"{{name: decode, data: {{source: 'file://{folder}/source/'}}, store: 'file://{folder}/store/'}}"
    job = parse_job(text, settings or ["model.image_size=32"])
    return Extraction(job, RUN, ResolvedBase("0" * 64), [POOLED], [], open_store(job.store))


def write_chunk(store: Store, examples: dict[str, str], tail: bytes = b"\1", packed: bool = False) -> np.ndarray:
    """Writes work in which each of these examples, {key: version}, needs a feature; returns their addresses."""
    count = len(examples)
    addresses = np.array([bytes([1 + at]) * 15 + tail for at in range(count)], ADDRESS)
    made = examples_of(np.zeros(count, np.int32), {"train": np.arange(count)})
    table = pa.table({"key": list(examples), "version": list(examples.values()), "label": ["a"] * count})
    made = replace(made, table=table, addresses=addresses)
    write_work(store, RUN, made, needs=np.ones((count, 1), np.bool_), featurizers=[POOLED], packed=packed)
    return addresses


def test_texts_in_other_encodings_become_the_same_words(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    text = "Größe, café"
    work = extraction(tmp_path, "task=text", "model={backbone: glove, weights: /v.txt}", "data.encoding=cp1252")
    source = open_store(work.job.data.source)
    for encoding in ("utf-8-sig", "utf-16", "cp1252"):
        source.write(encoding, text.encode(encoding))
    source.write("unused", b"\x81\x8d")
    write_chunk(work.store, {info.key: info.version for info in source.list()})
    with ThreadPoolExecutor(2) as decoders:
        decoded = Decoder(work, decoders, encoded=8).begin_chunk(0, pool)()
    assert len(decoded.inputs) == 3
    assert (decoded.inputs == text_form(work.job.model.max_tokens).decode(text).numpy()).all()
    assert [why for _, why in decoded.rejects] == ["neither cp1252 (data.encoding) nor UTF-8 text"]


@pytest.mark.parametrize("tail", [b"\1", b"\0"])
def test_objects_become_inputs_or_reasons(tail: bytes, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """NumPy strips the zeros at the end of an address: a reject has all of its bytes."""
    work = extraction(tmp_path)
    source = open_store(work.job.data.source)
    for key in ("a picture", "deleted", "overwritten"):
        source.write(key, picture(0, "red"))
    source.write("half", picture(0, "red")[:-30])
    source.write("words", b"text")
    versions = {info.key: info.version for info in source.list()}
    source.delete("deleted")
    source.write("overwritten", picture(1, "green"))
    addresses = write_chunk(work.store, versions, tail)
    with ThreadPoolExecutor(2) as decoders:
        decoded = Decoder(work, decoders, encoded=8).begin_chunk(0, pool)()
    assert decoded.inputs.shape == (1, 32, 32, 3)
    assert (decoded.inputs.dtype, bool(decoded.inputs.any())) == (np.uint8, True)
    at = {key: place for place, key in enumerate(versions)}
    assert decoded.addresses.tolist() == [addresses[at["a picture"]]]
    assert decoded.rejects == [
        (bytes([1 + at["half"]]) * 15 + tail, "broken image: its pixels can't be decoded (truncated?)"),
        (bytes([1 + at["words"]]) * 15 + tail, "not an image: it is text"),
    ]
    assert decoded.gone == {"deleted": GONE, "overwritten": GONE}
    assert (decoded.done, decoded.needs.tolist(), len(decoded.hashes)) == (5, [[True]], 1)


def test_of_a_packed_files_records_those_that_lack_something_are_decoded(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    work = extraction(tmp_path)
    addresses = write_chunk(work.store, {join_key("a.tar", position): "1" for position in (1, 4)}, packed=True)
    decoder = Decoder(work, pool, encoded=8)
    encoded = [picture(at, "red") for at in range(4)]
    decoded = decoder.begin_records("a.tar", [0, 1, 2, 4], [*encoded[:3], b"text"])()
    assert decoded.addresses.tolist() == [addresses[0]]
    assert [why for _, why in decoded.rejects] == ["not an image: it is text"]
    assert decoded.done == 2
    (alone,) = decoder.begin_records("a.tar", [1], encoded[1:2])().inputs
    assert (decoded.inputs[0] == alone).all(), "the record at its position, and not the first one"
    none = decoder.begin_records("a.tar", [0, 2], encoded[:2])()
    assert (none.inputs.shape, none.done) == ((0, 32, 32, 3), 0)


def test_only_so_many_examples_are_read_before_they_are_decoded(tmp_path: Path) -> None:
    work = extraction(tmp_path)
    source = open_store(work.job.data.source)
    for number in range(5 * GROUP):
        source.write(f"{number:02d}", picture(number, "red"))
    write_chunk(work.store, {info.key: info.version for info in source.list()})
    read = 0

    def counted(submit: Any) -> Any:
        def both(*call: Any) -> Any:
            nonlocal read
            read += 1
            return submit(*call)

        return both

    with ThreadPoolExecutor(4) as readers, ThreadPoolExecutor(1) as decoders, ThreadPoolExecutor(1) as ahead:
        busy = threading.Event()
        decoders.submit(busy.wait)
        readers.submit = counted(readers.submit)  # type: ignore[method-assign]
        begun = ahead.submit(Decoder(work, decoders, encoded=2 * GROUP).begin_chunk, 0, readers)
        with pytest.raises(TimeoutError):
            begun.result(0.5)
        assert read == 2 * GROUP
        busy.set()
        assert len(begun.result()().inputs) == 5 * GROUP


def test_work_that_is_gone(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    work = extraction(tmp_path)
    decoder = Decoder(work, pool, encoded=8)
    for begin in (
        lambda: decoder.begin_chunk(0, pool),
        lambda: decoder.begin_records("a.tar", [0], [b"x"]),
    ):
        with pytest.raises(StorageError) as caught:
            begin()
        assert (
            str(caught.value) == f"file://{tmp_path}/store/{RunKeys(RUN).work} was deleted in the meantime: run again."
        )
        assert isinstance(caught.value, ObjectMissing)
