"""Which side of the split an example is on: a pure function of its key (or group)."""

from __future__ import annotations

import hashlib

from job.config import Split

SPLITS = ("train", "validation", "test")


def split_of(identity: str, split: Split) -> str:
    """`train`, `validation` or `test` for a key or a group; independent of every other example.

    The first 8 bytes of BLAKE2b, as a fraction of 2**64, fall into one of three intervals.
    """
    digest = hashlib.blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < split.train:
        return "train"
    return "validation" if position < split.train + split.validation else "test"
