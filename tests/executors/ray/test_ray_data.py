"""What Ray Data's actors make of their rows, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from job.config.jobfile import parse_job
from job.errors import StorageError
from job.executors.ray.actors import Carried
from job.executors.ray.ray_data import DecodeObjects, DecodeRecords, decoded_of, row_of
from job.features.extraction import Decoded, Extraction
from job.features.store import ADDRESS
from job.model.resolved import ResolvedBase
from job.storage import open_store
from job.storage.run_keys import RunKeys


def extraction(folder: Path) -> Extraction:
    text = f"{{name: decode, data: {{source: 'file://{folder}/source/'}}, store: 'file://{folder}/store/'}}"
    job = parse_job(text, ["model.image_size=32"])
    return Extraction(job, "run", ResolvedBase("0" * 64), [], [], open_store(job.store))


def test_what_fails_with_a_row_is_carried_as_it_was_raised(tmp_path: Path) -> None:
    records = {"shard": np.array(["a.tar"]), "position": np.array([0]), "encoded": np.array([b"x"])}
    for actor, row in ((DecodeObjects, {"chunk": 0}), (DecodeRecords, records)):
        with pytest.raises(Carried) as caught:
            actor(extraction(tmp_path))(row)
        (error,) = caught.value.args
        assert isinstance(error, StorageError)
        assert str(error) == f"file://{tmp_path}/store/{RunKeys('run').work} was deleted in the meantime: run again."


def test_what_fails_as_an_actor_starts_is_raised_for_its_first_row(tmp_path: Path) -> None:
    work = extraction(tmp_path)
    data = work.job.data.model_copy(update={"source": "ftp://nowhere/"})
    decode = DecodeObjects(replace(work, job=work.job.model_copy(update={"data": data})))
    with pytest.raises(Carried, match="ftp"):
        decode({"chunk": 0})


@pytest.mark.parametrize("tail", [b"\1", b"\0"])
def test_what_was_decoded_comes_back_from_its_row(tail: bytes) -> None:
    """Also addresses whose last byte is zero, which NumPy strips."""
    sent = Decoded(
        np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3),
        np.array([b"\2" * 15 + tail], ADDRESS),
        np.array([7], np.uint64),
        np.array([[True, False]]),
        [(b"\1" * 15 + tail, "not an image: it is text")],
        {"a key": "deleted"},
        3,
    )
    row = row_of(sent)
    assert row["addresses"] == b"\2" * 15 + tail
    got = decoded_of(row)
    for name in ("inputs", "addresses", "hashes", "needs"):
        before, after = getattr(sent, name), getattr(got, name)
        assert (after.dtype, after.shape, after.tolist()) == (before.dtype, before.shape, before.tolist()), name
    assert (got.rejects, got.gone, got.done) == (sent.rejects, sent.gone, sent.done)
