"""Reading one packed file, as bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from job.config import Data
from job.data.sources.packed import records_of
from job.data.sources.records import Record


def read(content: bytes, layout: str, **packed: Any) -> list[Record]:
    data = Data(source="file:///source/", layout=layout, packed=packed or None)
    return list(records_of(pa.BufferReader(content), data, "file:///source/shard"))


def labels(records: list[Record]) -> list[str | None]:
    """Of those that can be used."""
    return [record.label for record in records if record.reject is None]


def rejects(records: list[Record]) -> list[tuple[int | None, str]]:
    return [(record.position, record.reject) for record in records if record.reject is not None]
