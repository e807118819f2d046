"""Selects the listed objects that are meant as examples, by their keys alone. All others are left out and counted."""

from __future__ import annotations

import fnmatch
import re
import string
from collections.abc import Callable, Sequence
from functools import lru_cache

from job.config import Data
from job.data.decoding import EXTENSIONS, UNREADABLE

PICTURES = EXTENSIONS | UNREADABLE
TEXTS = frozenset(("txt", "text", "md"))
"""Extensions, in lower case."""
SYSTEM = re.compile(
    r"""\.(?!\.?$).* | thumbs\.db | ehthumbs\.db | desktop\.ini | \$recycle\.bin | system\ volume\ information | ~\$.*
    | __macosx | icon\r | @eadir | \#recycle | @recycle | lost\+found | __pycache__
    | _success | _temporary | _metadata | _common_metadata | _(committed|started)_.* | .*_\$folder\$""",
    re.VERBOSE | re.DOTALL,
)
"""Names, in lower case, of hidden files, and of files that Windows, macOS, a NAS, Python, Spark and Hadoop leave."""
PLAIN = frozenset(string.ascii_letters + string.digits)
"""What names begin with that are not hidden, where they end with an extension of pictures or texts."""
EXTENSION = re.compile(r"[a-z0-9_+-]{1,12}")
HIDDEN, EXCLUDED, NOT_INCLUDED = "hidden or of the system", "data.exclude", "not in data.include"
NO_EXTENSION, STORED = "without extension", "in the store"


class Selection:
    """Decides which objects a job reads: by `data.include` and `data.exclude`, or by the extensions of its task."""

    def __init__(self, data: Data, task: str, store: str | None = None) -> None:
        """`task`: `image` or `text`. `store`: the prefix of keys of what runs write, where that is below the source."""
        self._store = store
        self._extensions = TEXTS if task == "text" else PICTURES
        self._spellings = self._extensions | {extension.upper() for extension in self._extensions}
        self._by_name = not data.is_packed
        self._included = matcher(data.include) if data.include else None
        self._excluded = matcher(data.exclude) if data.exclude else None

    def all_left_out(self, keys: Sequence[str], folders: Sequence[str]) -> list[str | None]:
        """`left_out` of each key, faster where most are pictures (or texts) and there is no other rule. The folder of
        each key ends with a slash; at the top, it is empty.
        """
        if self._store or self._excluded or self._included or not self._by_name:
            return list(map(self.left_out, keys))
        usual, left_out = self._spellings, self.left_out
        hidden = {folder: _is_hidden_folder(folder[:-1].lower()) for folder in dict.fromkeys(folders)}
        if any(hidden.values()):
            return list(map(left_out, keys))
        return [
            None if key[key.rfind(".") + 1 :] in usual and key[len(folder)] in PLAIN else left_out(key)
            for key, folder in zip(keys, folders, strict=True)
        ]

    def left_out(self, key: str, listed: bool = False) -> str | None:
        """The reason why an object is no example (one of a few, or its extension); None where it is one. An object that
        is `listed` in a label file may have any extension.
        """
        if is_hidden(key):
            return HIDDEN
        if self._store and key.startswith(self._store):
            return STORED
        if self._excluded and self._excluded(key):
            return EXCLUDED
        if self._included:
            return None if self._included(key) else NOT_INCLUDED
        extension = extension_of(key)
        if listed or not self._by_name or extension in self._extensions:
            return None
        return kind_of(extension)


def is_hidden(key: str) -> bool:
    """Whether a file, or a folder above it, is hidden, or one that a system leaves behind; in any case."""
    folder, _, name = key.lower().rpartition("/")
    return SYSTEM.fullmatch(name) is not None or _is_hidden_folder(folder)


@lru_cache(4096)
def _is_hidden_folder(folder: str) -> bool:
    return any(map(SYSTEM.fullmatch, folder.split("/")))


def extension_of(key: str) -> str:
    """The extension of a key in lower case, without the dot; empty where there is none."""
    _, dot, extension = key.rpartition("/")[2].rstrip().lower().rpartition(".")
    return extension if dot and EXTENSION.fullmatch(extension) and not extension.isdecimal() else ""


def kind_of(extension: str) -> str:
    """The kind under which objects with this extension are counted."""
    return f".{extension}" if extension else NO_EXTENSION


def matcher(globs: Sequence[str]) -> Callable[[str], object]:
    """A function that tells whether one of the globs (at least one) fits a key."""
    return re.compile("|".join(map(fnmatch.translate, globs)), re.IGNORECASE).match


def object_of(key: str, data: Data) -> str:
    """The key of the object that holds an example; for a record of a packed file, without its position."""
    return key.rpartition("#")[0] if data.is_packed and "#" in key else key
