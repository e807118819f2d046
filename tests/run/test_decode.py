from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.data.features import ADDRESS
from job.data.work import Chunk, work_key
from job.errors import StorageError
from job.executors.ray.actors import Carried
from job.features.decode import DecodeObjects, DecodeRecords
from job.jobfile import parse_job


def config_of(folder: Path) -> dict[str, Any]:
    text = f"{{name: decode, data: {{source: 'file://{folder}/source/'}}, store: 'file://{folder}/store/'}}"
    return {"job": parse_job(text, ["model.image_size=32"]).model_dump(mode="json", by_alias=True), "run": "run"}


def test_work_that_is_gone(tmp_path: Path) -> None:
    records = {"shard": np.array(["a.tar"]), "position": np.array([0]), "encoded": np.array([b"x"])}
    calls = ((DecodeObjects, {"chunk": 0}), (DecodeRecords, records))
    for decoder, row in calls:
        with pytest.raises(Carried) as caught:
            decoder(config_of(tmp_path))(row)
        (error,) = caught.value.args
        assert isinstance(error, StorageError)
        assert str(error) == f"file://{tmp_path}/store/{work_key('run')} was deleted in the meantime: run again."


def test_what_fails_as_an_actor_starts_is_raised_for_its_first_row(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    decode = DecodeObjects({**config, "job": {**config["job"], "store": "ftp://nowhere/"}})
    with pytest.raises(Carried, match="ftp"):
        decode({"chunk": 0})


@pytest.mark.parametrize("tail", [b"\1", b"\0"])
def test_a_reject_has_all_bytes_of_its_address(tail: bytes, tmp_path: Path) -> None:
    addresses = np.array([b"\2" * 16, b"\1" * 15 + tail], ADDRESS)
    chunk = Chunk(["a", "b"], ["1", "1"], np.zeros(2, np.uint64), addresses, np.ones((2, 1), np.bool_))
    row = DecodeObjects(config_of(tmp_path)).row(chunk, [np.zeros((32, 32, 3), np.uint8), "not an image"])
    ((address, why),) = json.loads(row["rejects"])
    assert (base64.b64decode(address), why) == (b"\1" * 15 + tail, "not an image")
    assert row["addresses"] == b"\2" * 16
