"""Checks whether the folders of a source are classes, as the job file says, or something else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from job.config import Data
from job.data.caution import Caution, shown
from job.data.splits import SPLITS, part_called, split_in
from job.errors import DataError

MOST = 4096
"""Folders that are held in memory."""
KEYS = 3
"""Keys that an error shows."""
DEEPEST = 5
"""Folders above an object that are compared."""
NO_CLASS = re.compile(
    r"(?:un(?:sup|supervised|labell?ed|sorted)|images|annotations?|labels|masks|outputs?|predictions|submissions?"
    r"|new folder(?: \(\d+\))?)",
    re.IGNORECASE,
)
"""Names of folders that data sets often have beside those of the classes."""


class Folders:
    """The folders that the examples of the layout `folders` are in: the first MOST of them, and a few keys."""

    def __init__(self, data: Data, uri: str) -> None:
        self._data, self._uri = data, uri
        self._known: set[str] = set()
        self.keys: list[str] = []
        self._divided: dict[bool, str] = {}
        """A key whose class folder is below the folder of the split (true), and one whose class folder is above it."""
        self._classes: set[str] = set()
        """With `data.split: folders`, the first folder of each key that is not that of the split."""
        self._usual = data.layout == "folders" and data.class_folder == 1

    def add(self, keys: Sequence[str]) -> None:
        """Adds the folders of objects that may be examples, whether they have a class or not."""
        self.keys += keys[: KEYS - len(self.keys)]
        latest = None
        for key in keys:
            folder = key[: max(0, key.rfind("/"))]
            if folder != latest and folder not in self._known and len(self._known) < MOST:
                self._add(folder, key)
            latest = folder

    def _add(self, folder: str, key: str) -> None:
        self._known.add(folder)
        names = folder.split("/")
        if len(names) > 1 and (split_folder := split_in(names)):
            place, _ = split_folder
            self._divided.setdefault(place == 0, key)
            self._classes.add(names[place == 0])

    def check(self) -> None:
        """Raises DataError where the classes are the parts of a published division, or some of them are."""
        if not self._usual:
            return
        if self._data.split == "folders":
            self._check_divided()
            return
        parts = _division(self._below(""))
        if not parts:
            return
        above, classes, deeper = f"{parts[0]}/", self._classes_below(parts[0]), ""
        if not classes and len(below := self._below(above)) == 1:
            classes, deeper = self._classes_below(f"{above}{below[0]}"), " and data.class_folder: 2"
        problem = f"{self._uri}: {_listed(parts)} are the parts of a published division, not classes"
        if not classes:
            raise DataError(
                f"{problem}, and there are no folders of classes below them ({', '.join(self.keys)}): "
                "data.layout: table reads the labels from a file, and its data.table.split the division from a column."
            )
        raise DataError(
            f"{problem}. data.split: folders{deeper} takes them as the split, and the folders below ({shown(classes)}) "
            "as classes."
        )

    def _check_divided(self) -> None:
        if parts := _division(sorted(self._classes)):
            raise DataError(
                f"{self._uri}: {_listed(parts)} are there twice, one in the other ({self.keys[0]}), and are no "
                "classes: data.class_folder: 2 takes the folders below them."
            )
        if len(self._divided) > 1:
            below, above = self._divided[True], self._divided[False]
            raise DataError(
                f"{self._uri}: {below} has its class below the folder of the split, and {above} above it, so that "
                f"{above.partition('/')[0]!r} would be a class. Leave out one kind: "
                f'data.exclude: ["{above.partition("/")[0]}/*"].'
            )

    def cautions(self) -> Iterator[Caution]:
        if not self._usual:
            return
        below = set().union(*(self._below(f"{top}/") for top in self._below("")))
        if self._data.split != "folders" and (parts := _division(sorted(below))):
            yield Caution(
                "data.split",
                f"{_listed(parts)} below the classes are the parts of a published division, which is not used: "
                "data.split: folders takes it as the split.",
            )
            return
        for depth in range(1, DEEPEST):
            classes, same = self._same_below(depth)
            if len(same) > 1:
                other = next((name for name in same if NO_CLASS.fullmatch(name) and name.lower() != "images"), None)
                yield Caution(
                    "data.class_folder",
                    f"the {classes} classes have the same folders below them ({shown(same)}): where those are the "
                    f"classes, write data.class_folder: {depth + 1}"
                    + (f'; where {other!r} has no examples, data.exclude: ["*/{other}/*"].' if other else "."),
                )
                return

    def _same_below(self, depth: int) -> tuple[int, list[str]]:
        """The number of classes, and the folder names (not dates) that all of them have `depth` levels below."""
        named: dict[str, set[str]] = {}
        for names in filter(None, map(self._undivided, self._known)):
            below = named.setdefault(names[0], set())
            if len(names) > depth and any(map(str.isalpha, names[depth])):
                below.add(names[depth])
        return len(named), sorted(set.intersection(*named.values())) if len(named) > 1 else []

    def _undivided(self, folder: str) -> list[str]:
        """The names of the folders in this path, without that of the split."""
        names = folder.split("/") if folder else []
        if self._data.split == "folders" and (split_folder := split_in(names)):
            place, _ = split_folder
            del names[place]
        return names

    def only_class(self, label: str) -> str:
        """A sentence that says how to get more than one class; empty where the folders give no hint."""
        above = f"{label}/"
        while len(below := self._below(above)) == 1:
            above += f"{below[0]}/"
        if not below:
            return ""
        seen = f"{shown(below)} ({', '.join(self.keys)})"
        divided = " with data.split: folders" if _division(below) else ""
        return f" Below it there are {seen}: data.source: {self._uri}{above} makes them the classes{divided}."

    def _classes_below(self, folder: str) -> list[str]:
        return [name for name in self._below(f"{folder}/") if not part_called(name)]

    def _below(self, above: str) -> list[str]:
        """The names of the folders in the folder `above` (empty, or with a slash at its end)."""
        start = len(above)
        names = {folder[start:].partition("/")[0] for folder in self._known if folder.startswith(above)}
        return sorted(names - {""})


def _division(names: list[str]) -> list[str]:
    """The names that are parts of a published division, train first. Empty without train, or with train alone."""
    named = [(name, *part) for name in names if (part := part_called(name))]
    sides = {rest: {split for _, split, of in named if of == rest} for _, _, rest in named}
    parts = [(SPLITS.index(split), name) for name, split, of in named if "train" in sides[of] and len(sides[of]) > 1]
    return [name for _, name in sorted(parts)]


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
