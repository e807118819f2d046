"""The ways in which the keys of a label file may differ from the objects' keys, from strict to loose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

DEEPEST = 8
"""The most folders that a key may have too many or too few."""
EXTENSION = r"\.[A-Za-z][A-Za-z0-9]{0,4}$"

QUOTED = r"^[A-Za-z][A-Za-z0-9+.-]*:/.*%"
"""URIs in which `%20` may be a blank."""

Rewrite = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class Way:
    """Two rewrites, of a key of the table and of an object's key: the two match where the rewritten keys are equal."""

    description: str
    """Words that follow "matched"."""
    table: Rewrite
    source: Rewrite
    loose: bool = True
    """Whether the way is tried only where the strict ways find too few keys."""


def ways(source: str, source_folders: int, table_folders: int) -> Iterator[Way]:
    """The ways, strict ones first; each loose way includes the rewrites of the strict ones.

    `source` is the URI of the source. The numbers are the most folders above a key in the source and in the table.
    """
    addressed = _addresses(source)

    def formed(keys: pa.Array) -> pa.Array:
        return pc.utf8_normalize(keys, form="NFC")

    def theirs(keys: pa.Array) -> pa.Array:
        return pc.utf8_lower(formed(keys))

    def ours(keys: pa.Array) -> pa.Array:
        return theirs(addressed(keys))

    yield Way("without blanks, `./`, `/`, `\\` or URI", addressed, lambda keys: keys, loose=False)
    yield Way("in another Unicode form", lambda keys: formed(addressed(keys)), formed, loose=False)
    yield Way("in another case", ours, theirs, loose=False)
    yield Way("without an extension", ours, _then(theirs, _stem))
    yield Way("with another extension", _then(ours, _stem), _then(theirs, _stem))
    yield Way("without zeros in front", _then(ours, _stem, _number), _then(theirs, _stem, _number))
    for ending, both in (("", False), (" and an extension", True)):
        their_end = _then(theirs, _stem) if both else theirs
        for depth in range(1, min(DEEPEST, table_folders) + 1):
            yield Way(f"without {_folders(depth)}{ending}", _then(ours, _below(depth)), their_end)
        for depth in range(1, min(DEEPEST, source_folders) + 1):
            description = f"below {_folders(depth)} of the source" + (", without an extension" if both else "")
            yield Way(description, ours, _then(their_end, _below(depth)))


def _addresses(source: str) -> Rewrite:
    """Rewrites paths and URIs to keys: without what stands before the key."""
    beginnings = "|".join(_beginnings(source))

    def rewritten(keys: pa.Array) -> pa.Array:
        keys = pc.replace_substring(pc.utf8_trim_whitespace(keys), pattern="\\", replacement="/")
        if pc.any(pc.match_substring_regex(keys, pattern=QUOTED)).as_py():
            keys = pa.array([unquote(key) if re.match(QUOTED, key) else key for key in keys.to_pylist()], keys.type)
        for pattern in (rf"^(?:{beginnings})", r"^[A-Za-z][A-Za-z0-9+.-]*://", r"^(?:\.{0,2}/)+"):
            keys = pc.replace_substring_regex(keys, pattern=pattern, replacement="")
        return keys

    return rewritten


def _beginnings(source: str) -> list[str]:
    """Regular expressions for the folder of the source, in URIs and as a local path."""
    scheme, _, rest = source.rstrip("/").partition("://")
    if scheme == "file":
        return [f"(?:file:(?://(?:localhost)?)?)?{re.escape(rest)}/"]
    bucket, _, prefix = rest.partition("/")
    bucket, below = re.escape(bucket), re.escape(f"{prefix}/" if prefix else "")
    if scheme == "gs":
        return [f"(?:gs://|https://storage\\.(?:googleapis|cloud\\.google)\\.com/){bucket}/{below}"]
    host = r"s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com"
    return [f"s3[an]?://{bucket}/{below}", f"https://(?:{bucket}\\.{host}|{host}/{bucket})/{below}"]


def _then(first: Rewrite, *others: Rewrite) -> Rewrite:
    def rewritten(keys: pa.Array) -> pa.Array:
        keys = first(keys)
        for rewrite in others:
            keys = rewrite(keys)
        return keys

    return rewritten


def _stem(keys: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(keys, pattern=EXTENSION, replacement="")


def _number(keys: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(keys, pattern=r"(^|/)0+([0-9]+)$", replacement=r"\1\2")


def _below(depth: int) -> Rewrite:
    return lambda keys: pc.replace_substring_regex(keys, pattern=rf"^(?:[^/]+/){{{depth}}}", replacement="")


def _folders(depth: int) -> str:
    return "its first folder" if depth == 1 else f"its first {depth} folders"
