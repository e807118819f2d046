"""Cautions about a listing: what is probably a mistake, but not certainly."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from job.config import Data
from job.data.caution import Caution, shown
from job.data.counted import Counted, links_not_followed
from job.data.folders import NO_CLASS
from job.data.selection import NO_EXTENSION
from job.errors import DataError, nearest

if TYPE_CHECKING:
    from job.data.snapshot import Snapshot

NO_VALUE = re.compile(r"(?i:nan|nat|null|nil|n/a|#n/a|<na>|undefined|-|\?)|None")
"""Names that programs write where they have no value."""
NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d*)?")
COPY = re.compile(r"(?: copy| ?\(\d+\))+$")
"""The endings of copied folders' names (`cat - Copy (2)`)."""
LETTERS = 60
"""Letters of a label that an error shows."""
BETWEEN = re.compile(r"\s*[|;,+/&]\s*|\s+")
"""Between the names of several classes."""


def listing_cautions(snapshot: Snapshot, counted: Counted, data: Data) -> Iterator[Caution]:
    yield from counted.notes
    yield from _same_names(snapshot.classes)
    no_value = [label for label in snapshot.classes if NO_VALUE.fullmatch(label)]
    if no_value:
        yield Caution(
            "data",
            f"a class is called {shown(no_value)}, as programs write where there is no value: leave its rows empty if "
            "it is none.",
        )
    beside = [label for label in snapshot.classes if NO_CLASS.fullmatch(label)]
    if beside and data.layout == "folders":
        key = counted.first[beside[0]]
        yield Caution(
            "data",
            f"a class is called {shown(beside)}, as folders are beside those of classes: if it is none, "
            f'data.exclude: ["{key[: key.rindex(f"{beside[0]}/")]}{beside[0]}/*"] leaves it out.',
        )
    if several := _made_of_others(snapshot.classes):
        yield Caution(
            "data",
            f"names of classes are made of those of others ({shown(several)}): an example has one class, and each such "
            "combination is one of its own.",
        )
    nameless = counted.rejects[""]
    listed = snapshot.examples + counted.reasons.total()
    if nameless > data.max_rejects * listed:
        yield Caution("data", f"{nameless:,} of {listed:,} have no class: {counted.without_class()}.")
    for split in counted.spare:
        share = getattr(data.fractions, split)
        yield Caution(
            "data.split",
            f"nothing is given for {split}: {share:.0%} of train take its place, by a hash of their keys.",
        )
    if counted.links:
        yield Caution("data.follow_links", links_not_followed(counted.links))
    for setting, unused in counted.unused.items():
        if unused.globs:
            yield Caution(setting, f"{shown(list(unused.globs))} matches no key: nothing is changed by it.")
    bare = counted.left_out[NO_EXTENSION]
    if data.layout == "folders" and bare > snapshot.examples:  # other files beside pictures are usual
        bare_files = f"{bare:,} {NO_EXTENSION} ({counted.keys[NO_EXTENSION][0]}) are left out"
        yield Caution(
            "data.include",
            f'{bare_files}, and {snapshot.examples:,} are examples: data.include: ["*"] takes all of them.',
        )


def _made_of_others(classes: list[str]) -> list[str]:
    known = set(classes)
    return [label for label in classes if len(parts := BETWEEN.split(label)) > 1 and known.issuperset(parts)]


def _same_names(classes: list[str]) -> Iterator[Caution]:
    folded = {label: _folded(label) for label in classes}
    known, alike = set(folded.values()), defaultdict[str, list[str]](list)
    for label, name in folded.items():
        original = COPY.sub("", name)
        alike[original if original in known else name].append(label)
    for names in alike.values():
        if len(names) > 1:
            yield Caution(
                "data",
                f"{shown(names)} are {len(names)} classes whose names differ in case, blanks or Unicode form alone, or "
                "as copies or spellings of one number do: if they are one class, give it one name.",
            )


def _folded(label: str) -> str:
    name = unicodedata.normalize("NFKC", label).casefold()
    if NUMBER.fullmatch(name):
        return str(float(name))
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or label


def never_trained(label: str, snapshot: Snapshot, counted: Counted, *, data: Data) -> DataError:
    """The error for a class that has examples only outside of the train split."""
    trained = [name for name, count in snapshot.counts["train"].items() if count]
    near = nearest(label, [name for name in trained if name != label])
    problem = (
        f"Class {label!r}{near} has examples ({counted.first[label]}), but no example on the train side of the split"
    )
    if not trained:
        return DataError(f"{problem}, as every other class: nothing is given for train.")
    given = data.split == "folders" or data.label_table.split
    return DataError(f"{problem}: add some{', or give it the name that it has there' if given else ''}.{grouped(data)}")


def grouped(data: Data) -> str:
    """A sentence which says that groups are not divided; empty where the job has no groups."""
    group = data.record_names.group if data.is_packed else data.label_table.group
    if not group:
        return ""
    setting = "data.packed.group" if data.is_packed else "data.table.group"
    return f" Equal values of {setting} ({group}) stay on one side: there may be too few different ones."


def labels_of_their_own(snapshot: Snapshot, data: Data, uri: str) -> DataError:
    shown = " and ".join(f"'{label[:LETTERS]}{'…' if len(label) > LETTERS else ''}'" for label in snapshot.classes[:2])
    setting = {"folders": "the folders below the source", "table": "data.table.label"}.get(
        data.layout, "data.packed.label"
    )
    return DataError(
        f"{uri}: {snapshot.examples} examples have {len(snapshot.classes)} different labels, such as {shown}: "
        f"these are no classes. Look at {setting}."
    )
