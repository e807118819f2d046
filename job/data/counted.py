"""What a listing has found, in numbers, and what of it is likely to be a mistake."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from job.config import Data
from job.data.caution import Caution, shown
from job.data.labels import EMPTY_FOLDER, NO_FOLDER, NO_PART, Listed
from job.data.selection import EXCLUDED, HIDDEN, NO_EXTENSION, NOT_INCLUDED
from job.data.splits import SPARE
from job.errors import DataError

if TYPE_CHECKING:
    from job.data.snapshot import Snapshot

DAY = 86_400
"""Seconds."""
KINDS, OTHERS = 64, "of other kinds"
"""Kinds of what is left out that are counted apart, and what the rest is called."""
KEYS = 3
"""Keys of a kind that an error shows."""
WANTED = {
    "folders": "data.layout folders wants CLASS/… below the source.",
    "table": "data.table says which file has the keys and the labels.",
}
NO_VALUE = re.compile(r"(?i:nan|nat|null|nil|n/a|#n/a|<na>|undefined|-|\?)|None")
"""Names that programs write where they have no value."""


class Counted:
    def __init__(self) -> None:
        self.examples = Counter[tuple[str, str]]()
        """Per split and class."""
        self.reasons, self.rejects = Counter[str](), Counter[str]()
        """Rejects per reason, and per class (empty where there is none)."""
        self.samples: dict[tuple[str, str], str] = {}
        """A key of each class and reason for rejecting it."""
        self.left_out = Counter[str]()
        self.keys: dict[str, list[str]] = defaultdict(list)
        """Some of what is left out, per kind."""
        self.days = Counter[int]()
        """Examples by the day since 1970 on which they were written."""
        self.links: list[str] = []
        self.notes: list[str] = []
        """What was assumed of a label file."""
        self.spare: list[str] = []
        """Splits that a published division lacks."""

    def add(self, item: Listed, split: str) -> None:
        assert item.label is not None
        self.examples[split, item.label] += 1
        if item.modified is not None:
            self.days[int(item.modified // DAY)] += 1

    def reject(self, item: Listed, reason: str) -> None:
        self.reasons[reason] += 1
        self.rejects[item.label or ""] += 1
        self.samples.setdefault((item.label or "", reason), item.key)

    def leave_out(self, item: Listed) -> None:
        kind = str(item.left_out)
        if kind not in self.left_out and len(self.left_out) >= KINDS:
            kind = OTHERS
        self.left_out[kind] += 1
        if len(self.keys[kind]) < KEYS:
            self.keys[kind].append(item.key)

    def without_class(self) -> str:
        """Why some have no class, with a key for each reason; empty where there is none."""
        reasons = [(reason, key) for (label, reason), key in self.samples.items() if not label]
        return "; ".join(f"{reason} (for example {key})" for reason, key in reasons[:KEYS])

    def move_spare(self) -> dict[str, str]:
        """Settles the splits of SPARE; returns what each of them is, where there are any."""
        there = {split for split, _ in self.examples}
        self.spare = [split for kept, split in SPARE.items() if kept in there and split not in there]
        moved = {kept: split if split in self.spare else "train" for kept, split in SPARE.items() if kept in there}
        for (split, label), count in list(self.examples.items()):
            if split in moved:
                del self.examples[split, label]
                self.examples[moved[split], label] += count
        return moved


def listing_cautions(snapshot: Snapshot, counted: Counted, data: Data) -> Iterator[Caution]:
    yield from (Caution("data.table", note) for note in counted.notes)
    yield from _same_names(snapshot.classes)
    no_value = [label for label in snapshot.classes if NO_VALUE.fullmatch(label)]
    if no_value:
        yield Caution(
            "data",
            f"a class is called {shown(no_value)}, as programs write where there is no value: leave its rows empty if "
            "it is none.",
        )
    nameless = counted.rejects[""]
    if nameless > data.max_rejects * (snapshot.examples + counted.reasons.total()):
        reasons = {reason: key for (label, reason), key in counted.samples.items() if not label}
        told = "; ".join(f"{reason} (for example {key})" for reason, key in list(reasons.items())[:KEYS])
        yield Caution("data", f"{nameless:,} of {snapshot.examples + counted.reasons.total():,} have no class: {told}.")
    for split in counted.spare:
        share = getattr(data.fractions, split)
        yield Caution(
            "data.split",
            f"there is no folder of the {split} split: {share:.0%} of train take its place, by a hash of their keys.",
        )
    if counted.links:
        yield Caution("data.follow_links", _links(counted.links))
    if data.exclude and not counted.left_out[EXCLUDED]:
        yield Caution("data.exclude", f"{shown(data.exclude)} matches no key: nothing is left out by it.")


def nothing_found(snapshot: Snapshot, counted: Counted, data: Data, uri: str, keys: list[str]) -> DataError:
    """What was there instead of examples (`keys`: some of it), and the setting that reads it."""
    told = [f"{count:,} {reason}" for reason, count in snapshot.rejects.items()]
    told += [f"{count:,} {kind} left out" for kind, count in snapshot.left_out.items()]
    advice = _links(counted.links) if counted.links else _wanted(counted, data, uri, keys)
    return DataError(f"{uri}: no labelled examples were found ({'; '.join(told) or 'the prefix is empty'}). {advice}")


def _wanted(counted: Counted, data: Data, uri: str, keys: list[str]) -> str:
    if counted.reasons[NO_FOLDER]:
        return (
            f"{', '.join(keys)} are in no class folder. data.layout folders wants CLASS/… below the source; "
            "data.layout: table reads the labels from a file."
        )
    if counted.reasons[EMPTY_FOLDER]:
        return f"data.source: {uri}/ reads what is in the folder without a name."
    if counted.left_out[NO_PART]:
        there = ", ".join(counted.keys[NO_PART])
        return f"data.split: folders wants train/…, val/… and test/… above or below the classes; there is {there}."
    kind = next((kind for kind in counted.left_out if kind not in (HIDDEN, EXCLUDED)), None)
    if kind == NOT_INCLUDED:
        return f"data.include has to fit the keys: there is {', '.join(counted.keys[kind])}."
    if kind is not None and not data.is_packed:
        glob = "*" if kind in (NO_EXTENSION, OTHERS) else f"*{kind}"
        return f'There is {", ".join(counted.keys[kind])}: data.include: ["{glob}"] takes them as examples.'
    return WANTED.get(data.layout, "data.packed says what the parts of a record are called.")


def _same_names(classes: list[str]) -> Iterator[Caution]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in classes:
        words = unicodedata.normalize("NFKC", label).casefold().replace("_", " ").replace("-", " ").split()
        alike[" ".join(words) or label].append(label)
    for names in alike.values():
        if len(names) > 1:
            yield Caution(
                "data",
                f"{shown(names)} are {len(names)} classes whose names differ in case, blanks or Unicode form alone: if "
                "they are one class, give it one name.",
            )


def _links(links: list[str]) -> str:
    one = len(links) == 1
    return (
        f"{len(links):,} {'link is' if one else 'links are'} not followed ({shown(links)}): data.follow_links: true "
        "follows what leads out of the source; what leads nowhere, or into itself, stays left out."
    )
