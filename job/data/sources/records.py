"""What the readers of packed layouts share: records of shards, and the errors of broken shards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from job.config import Packed
from job.data.sources.label_values import NoName, name_of, trimmed
from job.errors import nearest

LONGEST = 256 * 2**20
"""Bytes of the longest image, or record, that is read into memory."""
LONGEST_NAME = 1000
"""Characters of the longest label, or group."""
SHOWN, LETTERS = 8, 40
"""The number of parts of a record that a reject names, and of their letters."""
CONTROLS = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")
"""Characters of binary numbers, of UTF-16 and of several labels in one, which no name has."""
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
    """A record as its reader found it: None for a missing part, or NoName with a reason."""

    image: bytes | None = None
    label: Any = None
    group: Any = None
    known: Sequence[str] = ()
    """The names of the parts that the record has."""
    reject: str | None = None


class BrokenShard(Exception):
    """Nothing more of the shard can be read, and the storage is not at fault."""


class WrongLayout(BrokenShard):
    """The shard is a file of another kind."""


def make_record(position: int, fields: Fields, names: Packed) -> Record:
    """The record with its label and group as text. The first reason for rejecting it counts."""
    reasons = [fields.reject]
    words: dict[str, str | None] = {}
    for role, value in (("label", fields.label), ("group", fields.group)):
        try:
            if isinstance(value, NoName):
                raise value
            words[role] = name = name_of(value)
            if name is not None and len(name) > LONGEST_NAME:
                raise NoName(f"is longer than {LONGEST_NAME} characters")
            if CONTROLS.search(trimmed(name) or ""):
                raise NoName("is no text of one line (it has line breaks, or control characters)")
        except NoName as error:
            words[role] = None
            reasons.append(f"{role} {error}")
    for role, value in (("image", fields.image), *words.items()):
        name = getattr(names, role)
        if name is not None and value is None:
            reasons.append(f"no {role} ({name}{_instead(name, names, fields.known)}")
    if fields.image is not None and len(fields.image) > LONGEST:
        reasons.append(TOO_LONG)
    reasons.append("empty label" if words["label"] == "" else None)
    reject = next(filter(None, reasons), None)
    return Record(position, fields.image or b"", words["label"] or None, words["group"], reject and printable(reject))


def printable(reason: str) -> str:
    """The reason without the unprintable characters of a broken file: halves of characters, control characters."""
    return (
        reason
        if reason.isprintable()
        else "".join(character if character.isprintable() else "�" for character in reason)
    )


def _instead(name: str, names: Packed, known: Sequence[str]) -> str:
    """Words about the parts that a record has in place of the missing part `name`."""
    if name in known:
        return " has no value)"
    used = {*str(names.image).split(";"), names.label, names.group}
    others = [part for part in known if part not in used]
    shown = ", ".join(part[:LETTERS] for part in others[:SHOWN])
    return f"){near}" if (near := nearest(name, others)) else f"; it has {shown})" if shown else ")"
