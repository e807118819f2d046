"""Splits: the split of an example is a pure function of its key (or group)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from job.config import Data, Split

SPLITS = ("train", "validation", "test")
SPELLINGS = re.compile(
    r"(?:partial[ _-])?"  # as Hugging Face calls the first part of what it has converted
    r"(?:(?P<train>train|training|trn)|(?P<validation>val|valid|validation|validate|dev|eval|evaluation)"
    r"|(?P<test>test|testing|tst))(?:[ _-]?(?:set|data|split|images|imgs|\d+))*",
    re.IGNORECASE,
)
"""The names of split folders in published data sets."""
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""The words of names such as `seg_train`, `20news-bydate-train` and `trainA`."""


SPARE = {"train, or validation": "validation", "train, or test": "test"}
"""Provisional splits: parts of train that become this split where a published division lacks it."""


def sides_of(given: Sequence[str | None], identities: Sequence[str], data: Data) -> list[str]:
    """The split of each example: the `given` one, or by a hash; one of SPARE where it is provisional."""
    shares, positions = data.fractions, positions_of(identities)
    if not any(given):
        return _splits_at(positions, shares)
    hashed = zip(given, _splits_at(positions, shares), positions.tolist(), strict=True)
    return [
        split if of is None else _provisional(position, shares) if of == "train" else of
        for of, split, position in hashed
    ]


def split_of(identity: str, split: Split) -> str:
    """`train`, `validation` or `test` for a key or a group; independent of every other example.

    The first 8 bytes of BLAKE2b, as a fraction of 2**64, fall into one of three intervals.
    """
    return _splits_at(positions_of([identity]), split)[0]


def positions_of(identities: Sequence[str]) -> np.ndarray:
    """Numbers in [0, 1) from digests of the identities, uniform over identities, float64 [n]."""
    blake = hashlib.blake2b
    digests = [blake(identity.encode("utf-8", "surrogateescape"), digest_size=8).digest() for identity in identities]
    return np.frombuffer(b"".join(digests), ">u8") / 2**64


def _splits_at(positions: np.ndarray, shares: Split) -> list[str]:
    bounds = [shares.train, shares.train + shares.validation]
    return list(map(SPLITS.__getitem__, np.searchsorted(bounds, positions, side="right").tolist()))


def _provisional(position: float, shares: Split) -> str:
    """The split of an example that is given to train."""
    if position < shares.validation:
        return "train, or validation"
    return "train, or test" if position < shares.validation + shares.test else "train"


def split_called(name: str) -> str | None:
    """The split that a folder of this name holds in published data sets; None where it is a name like any other."""
    match = SPELLINGS.fullmatch(name.strip())
    return match.lastgroup if match else None


@lru_cache(4096)
def part_called(name: str) -> tuple[str, str] | None:
    """The split that a name means, as a whole or by one of its words, and the rest of the name. The rest is empty, or
    what all parts of a division share (`seg` of `seg_train` and `seg_test`). Classes may have such names, too (`steam
    train`).
    """
    if split := split_called(name):
        return split, ""
    named = [(word, split) for word in WORD.finditer(name) if (split := split_called(word[0]))]
    if len(named) != 1:
        return None
    ((word, split),) = named
    return split, re.sub(r"[\W_]+", " ", f"{name[: word.start()]} {name[word.end() :]}").strip().lower()


def split_in(folders: list[str]) -> tuple[int, str] | None:
    """The place and the split of the first folder that is named like a split, or else of the first with such a word in
    its name. None where there is none.
    """
    parts = [(at, *part) for at, name in enumerate(folders) if (part := part_called(name))]
    at, split, _ = next((part for part in parts if not part[2]), parts[0] if parts else (0, "", ""))
    return (at, split) if split else None


def split_above(key: str, named: bool = False) -> str | None:
    """The split that the folders above an object mean; or, with `named`, a word of its own name."""
    folders, _, name = key.rpartition("/")
    if split_folder := split_in(folders.split("/")):
        return split_folder[1]
    words = re.split(r"[^A-Za-z]+", name) if named else ()
    return next(filter(None, map(split_called, words)), None)
