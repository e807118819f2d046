"""What the readers of packed layouts have in common: the record of a shard, and the shard that is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from job.config import Packed
from job.errors import nearest

LONGEST = 256 * 2**20
"""Bytes of the longest image, or record, that is read into memory."""
TOO_LONG = f"longer than {LONGEST} bytes"


@dataclass(frozen=True)
class Record:
    """One image with its label, or the reason why it can't be used."""

    position: int | None
    """Counts every record of the shard from 0; None stands for the shard itself."""
    encoded: bytes = b""
    label: str | None = None
    group: str | None = None
    reject: str | None = None


@dataclass(frozen=True)
class Fields:
    """A record as its reader found it: None for what is missing."""

    image: bytes | None = None
    label: Any = None
    group: Any = None
    known: Sequence[str] = ()
    """The names of what the record does have."""
    reject: str | None = None


class BrokenShard(Exception):
    """Nothing more of the shard can be read, and the storage is not at fault."""


def make_record(position: int, fields: Fields, names: Packed) -> Record:
    """The record with its label and group as text. The first reason for rejecting it counts."""
    reasons = [fields.reject]
    text: dict[str, str | None] = {}
    for role, value in (("label", fields.label), ("group", fields.group)):
        try:
            text[role] = _text(value)
        except UnicodeDecodeError:
            text[role] = None
            reasons.append(f"{role} is not UTF-8")
    for role, value in (("image", fields.image), *text.items()):
        name = getattr(names, role)
        if name is not None and value is None:
            reasons.append(f"no {role} ({name}){nearest(name, list(fields.known))}")
    if fields.image is not None and len(fields.image) > LONGEST:
        reasons.append(TOO_LONG)
    reasons.append("empty label" if text["label"] == "" else None)
    reject = next(filter(None, reasons), None)
    return Record(position, fields.image or b"", text["label"] or None, text["group"], reject)


def _text(value: Any) -> str | None:
    """A number is used as a name."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)
