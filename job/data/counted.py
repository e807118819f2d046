"""The counts of a listing, and the error for a listing without examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from job.config import Data
from job.data.caution import Caution, shown
from job.data.items import Items, Listed
from job.data.labels import EMPTY_FOLDER, NO_FOLDER, NO_PART
from job.data.selection import EXCLUDED, HIDDEN, NO_EXTENSION, NOT_INCLUDED, STORED, matcher, object_of
from job.data.splits import SPARE
from job.errors import DataError

if TYPE_CHECKING:
    from job.data.snapshot import Snapshot

DAY = 86_400
"""Seconds."""
KINDS, OTHERS = 64, "of other kinds"
"""The number of kinds of left-out objects that are counted separately, and the name for all further kinds."""
KEYS = 3
"""Keys of a kind that an error shows."""
TABLES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".parquet")
READERS = {
    **dict.fromkeys((".parquet", ".pq", ".parq"), "data.layout: parquet reads it"),
    **dict.fromkeys((".tfrecord", ".tfrecords", ".tfrec", ".record", ".records"), "data.layout: tfrecord reads it"),
    **dict.fromkeys((".tar", ".tgz"), "data.layout: webdataset reads it, if its files are labelled; else unpack it"),
    **dict.fromkeys(
        (*(".pdf", ".doc", ".docx", ".odt", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl"), ".mp4", ".avi", ".mov"),
        "convert it: examples are pictures, or plain text",
    ),
    **dict.fromkeys((".zip", ".7z", ".rar", ".gz", ".bz2", ".xz"), "unpack it: examples are objects of their own"),
}
"""Advice by extension, for objects that are neither pictures nor texts."""
WANTED = {
    "folders": "data.layout folders wants CLASS/… below the source.",
    "table": "data.table says which file has the keys and the labels.",
}


class Unused:
    """The globs of a setting that no key has matched so far."""

    def __init__(self, globs: Sequence[str]) -> None:
        self.globs = {glob: matcher([glob]) for glob in globs}

    def see(self, key: str) -> None:
        for glob in [glob for glob, matches in self.globs.items() if matches(key)]:
            del self.globs[glob]


class Counted:
    """The counts of a listing, and a few keys for messages."""

    def __init__(self, data: Data) -> None:
        self.examples = Counter[tuple[str, str]]()
        """The number of examples per split and class."""
        self.first: dict[str, str] = {}
        """The key of an example of each class."""
        self._data = data
        included = [
            glob for glob in data.include or () if glob.rpartition(".")[0] != "*"
        ]  # lists of extensions are long
        self.unused = {"data.include": Unused(included), "data.exclude": Unused(data.exclude)}
        self.reasons, self.rejects = Counter[str](), Counter[str]()
        """Rejects per reason, and per class (empty where there is none)."""
        self.samples: dict[tuple[str, str], str] = {}
        """A key of each class and reason for rejecting it."""
        self.left_out = Counter[str]()
        self.keys: dict[str, list[str]] = defaultdict(list)
        """A few keys of left-out objects, per kind."""
        self.days = Counter[int]()
        """Examples by the day since 1970 on which they were written."""
        self.links: list[str] = []
        self.notes: list[Caution] = []
        """What was assumed in the listing."""
        self.spare: list[str] = []
        """Splits that a published division lacks."""

    def add(self, examples: Items, splits: list[str]) -> None:
        """Counts examples, each with its split."""
        labels = list(map(str, examples.label))
        self.examples.update(zip(splits, labels, strict=True))
        self.days.update([int(time // DAY) for time in examples.modified if time is not None])
        for label in dict.fromkeys(labels):
            if label not in self.first:
                self.first[label] = examples.key[labels.index(label)]
        if self.unused["data.include"].globs:
            for key in examples.key:
                self._see("data.include", key)

    def reject(self, item: Listed, reason: str) -> None:
        self._see("data.include", item.key)
        self.reasons[reason] += 1
        self.rejects[item.label or ""] += 1
        self.samples.setdefault((item.label or "", reason), item.key)

    def leave_out(self, item: Listed) -> None:
        kind = str(item.left_out)
        if kind not in self.left_out and len(self.left_out) >= KINDS:
            kind = OTHERS
        self.left_out[kind] += 1
        self._see("data.exclude", item.key)
        if len(self.keys[kind]) < KEYS:
            self.keys[kind].append(item.key)

    def _see(self, setting: str, key: str) -> None:
        if (unused := self.unused[setting]).globs:
            unused.see(object_of(key, self._data))

    def without_class(self) -> str:
        """The reasons why some examples have no class, with a key for each; empty where all have one."""
        reasons = [(reason, key) for (label, reason), key in self.samples.items() if not label]
        return "; ".join(f"{reason} (for example {key})" for reason, key in reasons[:KEYS])

    def label_file_hint(self, data: Data) -> str:
        """A sentence that names a left-out file which may have the labels; empty where there is no such file."""
        key = next((self.keys[kind][0] for kind in TABLES if kind in self.keys), None)
        if data.layout != "folders" or key is None:
            return ""
        return f" data.layout: table reads the labels from a file: there is {key}."

    def settle_spare_splits(self) -> dict[str, str]:
        """Replaces the provisional splits of SPARE in the counts; returns the final split of each that occurs."""
        there = {split for split, _ in self.examples}
        self.spare = [split for kept, split in SPARE.items() if kept in there and split not in there]
        moved = {kept: split if split in self.spare else "train" for kept, split in SPARE.items() if kept in there}
        for (split, label), count in list(self.examples.items()):
            if split in moved:
                del self.examples[split, label]
                self.examples[moved[split], label] += count
        return moved


def no_examples(snapshot: Snapshot, counted: Counted, data: Data, *, uri: str, keys: list[str]) -> DataError:
    """The error for a source without examples. It says what was listed instead (`keys` are a few of those objects), and
    which setting reads it.
    """
    reasons = [f"{count:,} {reason}" for reason, count in snapshot.rejects.items()]
    reasons += [f"{count:,} {kind} left out" for kind, count in snapshot.left_out.items()]
    advice = links_not_followed(counted.links) if counted.links else _layout_advice(counted, data, uri, keys=keys)
    return DataError(
        f"{uri}: no labelled examples were found ({'; '.join(reasons) or 'the prefix is empty'}). {advice}"
    )


def _layout_advice(counted: Counted, data: Data, uri: str, *, keys: list[str]) -> str:
    if counted.reasons[NO_FOLDER]:
        if data.class_folder != 1:
            return f"{', '.join(keys)} are in no folder at this place: look at data.class_folder ({data.class_folder})."
        return (
            f"{', '.join(keys)} are in no class folder. data.layout folders wants CLASS/… below the source; "
            "data.layout: table reads the labels from a file."
        )
    if counted.reasons[EMPTY_FOLDER]:
        return f"data.source: {uri}/ reads what is in the folder without a name."
    if counted.left_out[NO_PART]:
        there = ", ".join(counted.keys[NO_PART])
        return f"data.split: folders wants train/…, val/… and test/… above or below the classes; there is {there}."
    kind = next((kind for kind in counted.left_out if kind not in (HIDDEN, EXCLUDED, STORED)), None)
    if kind == NOT_INCLUDED:
        return f"data.include has to fit the keys: there is {', '.join(counted.keys[kind])}."
    if kind is not None and not data.is_packed:
        if known := next((kind for kind in counted.left_out if kind in READERS), None):
            return f"There is {counted.keys[known][0]}: {READERS[known]}."
        return f'There is {", ".join(counted.keys[kind])}: data.include: ["{glob_of(kind)}"] takes them as examples.'
    if counted.left_out[EXCLUDED]:
        return f"data.exclude leaves out {', '.join(counted.keys[EXCLUDED])}."
    return WANTED.get(data.layout, "data.packed says what the parts of a record are called.")


def glob_of(kind: str) -> str:
    return "*" if kind in (NO_EXTENSION, OTHERS) else f"*{kind}"


def links_not_followed(links: list[str]) -> str:
    single = len(links) == 1
    return (
        f"{len(links):,} {'link is' if single else 'links are'} not followed ({shown(links)}): data.follow_links: true "
        "follows what leads out of the source; what leads nowhere, or into itself, stays left out."
    )
