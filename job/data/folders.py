"""What the folders of a source look like, where they may not be what the job file takes them for."""

from __future__ import annotations

from collections.abc import Iterator

from job.config import Data
from job.data.caution import Caution, shown
from job.data.splits import SPLITS, split_called
from job.errors import DataError

MOST = 4096
"""Folders that are held in memory."""
KEYS = 3
"""Keys that an error shows."""


class Folders:
    """The folders that the examples of the layout `folders` are in: the first MOST of them, and a few keys."""

    def __init__(self, data: Data, uri: str) -> None:
        self._data, self._uri = data, uri
        self._known: set[str] = set()
        self.keys: list[str] = []

    def add(self, key: str) -> None:
        """An object that may be an example, whether it has a class or not."""
        if len(self.keys) < KEYS:
            self.keys.append(key)
        if len(self._known) < MOST:
            self._known.add(key.rpartition("/")[0])

    def check(self) -> None:
        """Raises DataError where the classes are the parts of a published division."""
        if self._data.layout != "folders" or self._data.split == "folders" or self._data.class_folder != 1:
            return
        parts = _division(self._below(""))
        if not parts:
            return
        classes = [folder for folder in self._below(f"{parts[0]}/") if not split_called(folder)]
        told = f"{self._uri}: {_listed(parts)} are the parts of a published division, not classes"
        if not classes:
            raise DataError(
                f"{told}, and there are no folders of classes below them ({', '.join(self.keys)}): "
                "data.layout: table reads the labels from a file, and its data.table.split the division from a column."
            )
        raise DataError(
            f"{told}. data.split: folders takes them as the split, and the folders below ({shown(classes)}) as classes."
        )

    def cautions(self) -> Iterator[Caution]:
        if self._data.layout != "folders" or self._data.split == "folders" or self._data.class_folder != 1:
            return
        below = [set(self._below(f"{top}/")) for top in self._below("")]
        if parts := _division(sorted(set().union(*below))):
            yield Caution(
                "data.split",
                f"{_listed(parts)} below the classes are the parts of a published division, which is not used: "
                "data.split: folders takes it as the split.",
            )
            return
        same = sorted(name for name in set.intersection(*below) if not name.isdecimal()) if len(below) > 1 else []
        if len(same) > 1:
            yield Caution(
                "data.class_folder",
                f"the {len(below)} classes have the same folders below them ({shown(same)}): where those are the "
                "classes, write data.class_folder: 2.",
            )

    def only_class(self, label: str) -> str:
        """How more than one class can be found, in a sentence; empty where nothing was seen that tells it."""
        above = f"{label}/"
        while len(below := self._below(above)) == 1:
            above += f"{below[0]}/"
        if not below:
            return ""
        seen = f"{shown(below)} ({', '.join(self.keys)})"
        divided = " with data.split: folders" if _division(below) else ""
        return f" Below it there are {seen}: data.source: {self._uri}{above} makes them the classes{divided}."

    def _below(self, above: str) -> list[str]:
        """The names of the folders in the folder `above` (empty, or with a slash at its end)."""
        start = len(above)
        names = {folder[start:].partition("/")[0] for folder in self._known if folder.startswith(above)}
        return sorted(names - {""})


def _division(names: list[str]) -> list[str]:
    """Those that are parts of a published division, train first; none where it has no train, or nothing else."""
    parts = sorted((name for name in names if split_called(name)), key=lambda name: SPLITS.index(split_called(name)))
    found = {split_called(name) for name in parts}
    return parts if "train" in found and len(found) > 1 else []


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
