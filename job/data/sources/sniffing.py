"""The first bytes of a source's objects, where their names do not tell what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from job.data.sources.signature import HEAD, describe, reads
from job.errors import ObjectMissing
from job.storage import ObjectInfo, Store

AT_A_TIME = 16
"""Objects that are looked into at a time."""
SHOWN = 64
"""Objects that an error looks into."""


def first_bytes(source: Store, objects: Iterable[ObjectInfo]) -> Iterator[tuple[ObjectInfo, bytes]]:
    """Each object in its order with the first HEAD bytes of it; none of one that is empty, or gone."""
    left = iter(objects)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        while some := list(islice(left, AT_A_TIME)):
            yield from zip(some, pool.map(lambda info: first_of(source, info), some), strict=True)


def first_of(source: Store, info: ObjectInfo) -> bytes:
    try:
        return source.read_first(info.key, HEAD, info.version) if info.size else b""
    except ObjectMissing:
        return b""


def what_is_there(source: Store, objects: Iterable[ObjectInfo]) -> str:
    """What one of the objects is, as a sentence, best of all one of which there is something to say, and a text (a
    README) last; "" where there is none.
    """
    some = [(info, first) for info, first in first_bytes(source, islice(objects, SHOWN)) if first]
    if not some:
        return ""
    info, first = min(some, key=lambda one: (not reads(one[1]), describe(one[1]).startswith("text (")))
    return f" {source.uri}{info.key} is {describe(first)}{reads(first)}."
