"""Reads the first bytes of a source's objects, where their names do not say what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from job.data.sources.signature import HEAD, describe, reads
from job.errors import ObjectMissing
from job.storage import ObjectInfo, Store

AT_A_TIME = 16
"""Objects that are read at a time."""
SHOWN = 64
"""Objects that are read for an error."""


def first_bytes(source: Store, objects: Iterable[ObjectInfo]) -> Iterator[tuple[ObjectInfo, bytes]]:
    """Each object in its order with its first HEAD bytes; b"" for one that is empty or gone."""
    left = iter(objects)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        while block := list(islice(left, AT_A_TIME)):
            yield from zip(block, pool.map(lambda info: first_of(source, info), block), strict=True)


def first_of(source: Store, info: ObjectInfo) -> bytes:
    try:
        return source.read_first(info.key, HEAD, info.version) if info.size else b""
    except ObjectMissing:
        return b""


def describe_first_objects(source: Store, objects: Iterable[ObjectInfo]) -> str:
    """A sentence that describes one of the first objects: one with advice if possible, a text (a README) last; "" where
    there is no object.
    """
    candidates = [(info, first) for info, first in first_bytes(source, islice(objects, SHOWN)) if first]
    if not candidates:
        return ""
    info, first = min(
        candidates, key=lambda candidate: (not reads(candidate[1]), describe(candidate[1]).startswith("text ("))
    )
    return f" {source.uri}{info.key} is {describe(first)}{reads(first)}."
