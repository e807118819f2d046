"""What a sample of the examples lets expect: rejects, by their headers, and what pictures have that is not used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from job.config import Data
from job.data.forms import Form
from job.data.look import Look, is_usual, look
from job.data.sources.packed import open_shard, records_of, split_key
from job.data.sources.table import object_reader
from job.errors import ObjectMissing
from job.planning.listing import Row
from job.storage import Store, arrow_errors

HEADER = 64 * 2**10
"""Bytes of an object that are read first; all of it where they are not enough to tell."""
READERS = 16
FILES, RECORDS = 4, 32
"""Packed files of the sample that are opened, and records of each that are looked at: its first ones."""
LOOKED = 100
"""Pictures that are looked at: the first of the sample that can be used."""
NAMED = 5
"""Rejects that are named."""
Z = 1.96
"""The normal quantile of a 95 % interval."""
GONE = "deleted or overwritten since it was listed"


@dataclass(frozen=True)
class Looks:
    """What pictures of a sample have that may be lost on the way to the network: further pictures, and bits."""

    looked: int = 0
    several: int = 0
    """The number of pictures that are animated, or have pages."""
    deep: int = 0
    """The number of pictures of more than 8 bits."""
    values: tuple[int, int, int] | None = None
    """The lowest and the highest value of these, and their bits."""


@dataclass(frozen=True)
class Headers:
    """What was found in a sample."""

    sampled: int
    reasons: dict[str, int]
    """Rejects per reason."""
    named: list[tuple[str, str]]
    """Key and reason of some of them."""
    usable: list[bytes]
    """Some of the others, encoded, whole."""
    looks: Looks = Looks()

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


def look_at(data: Data, form: Form, source: Store, *, rows: list[Row], most: int) -> Headers:
    """What a sample shows; packed sources are sampled by their first records. At most `most` of the
    usable ones are read whole.
    """
    if data.is_packed:
        return _first_records(data, form, source, rows=rows, most=most)
    whole = object_reader(data, source)
    first = source.read_first if data.label_table.text is None else None

    def read(row: Row) -> bytes | None:
        with suppress(ObjectMissing):
            return whole(row.key, row.version)
        return None

    with ThreadPoolExecutor(READERS) as pool:
        verdicts = list(pool.map(lambda row: _verdict(form, row, first, whole=whole), rows))
        rejects = [(row.key, why) for row, (why, _) in zip(rows, verdicts, strict=True) if why]
        good = [(row, usual) for row, (why, usual) in zip(rows, verdicts, strict=True) if not why]
        looked = good[:LOOKED] if form.picture else []
        looks = list(pool.map(lambda item: Look() if item[1] else look(read(item[0]) or b""), looked))
        usable = [content for content in pool.map(read, [row for row, _ in good[:most]]) if content is not None]
    return Headers(len(rows), _counted(rejects), rejects[:NAMED], usable, _summed(looks))


def interval(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927, "Probable Inference")."""
    if not of:
        return 0.0, 1.0
    rate, square = hits / of, Z * Z / of
    middle, half = rate + square / 2, Z * math.sqrt(rate * (1 - rate) / of + square / of / 4)
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def _verdict(
    form: Form, row: Row, first: Callable[[str, int, str], bytes] | None, *, whole: Callable[[str, str], bytes]
) -> tuple[str | None, bool]:
    """Why an example can't be used, as far as its header tells; and whether there is nothing to look for in it."""
    try:
        content = first(row.key, HEADER, row.version) if first and row.size > HEADER else whole(row.key, row.version)
        reason = form.inspect(content)
        if reason and len(content) < row.size:
            reason = form.inspect(content := whole(row.key, row.version))
        return reason, is_usual(content)
    except ObjectMissing:
        return GONE, True


def _first_records(data: Data, form: Form, source: Store, *, rows: list[Row], most: int) -> Headers:
    shards = list(dict.fromkeys(split_key(row.key)[0] for row in rows))
    filesystem, root = source.arrow()
    looked, rejects, usable, looks = 0, list[tuple[str, str]](), list[bytes](), list[Look]()
    for shard in shards[:: max(1, len(shards) // FILES)][:FILES]:
        with arrow_errors(source.uri + shard), open_shard(filesystem, f"{root}/{shard}", data) as file:
            for record in islice(records_of(file, data, source.uri + shard), RECORDS):
                if record.reject or len(record.encoded) > data.max_bytes:
                    continue
                looked += 1
                if why := form.inspect(record.encoded):
                    rejects.append((f"{shard}, record {record.position}", why))
                    continue
                if len(usable) < most:
                    usable.append(record.encoded)
                if form.picture and len(looks) < LOOKED:
                    looks.append(Look() if is_usual(record.encoded) else look(record.encoded))
    return Headers(looked, _counted(rejects), rejects[:NAMED], usable, _summed(looks))


def _counted(rejects: list[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(why for _, why in rejects).most_common())


def _summed(looks: list[Look]) -> Looks:
    bounds = None
    if values := [picture.values for picture in looks if picture.values]:
        lowest, highest, bits = zip(*values, strict=True)
        bounds = min(lowest), max(highest), max(bits)
    several, deep = sum(picture.pictures > 1 for picture in looks), sum(picture.deep for picture in looks)
    return Looks(len(looks), several, deep, bounds)
