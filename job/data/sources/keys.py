"""Finds the objects of the source that the keys of a label file mean, where they are spelled differently there.

A key that equals an object's key is that object's. The other keys, and the objects that no row names, are rewritten in
one way after another until they are equal. Each match must be the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job.data.sources.spellings import Way, ways
from job.errors import DataError

Batches = Callable[[], Iterable[pa.Array]]
"""Yields the source's keys by ascending bytes, from the beginning each time it is called."""
ENOUGH = 0.5
"""Where strict ways find this share of the keys, no loose way is tried. Where all ways so far find this share, an
ambiguous way is passed over."""
SHOWN = 200
"""Keys of the source that are searched for the one most similar to a missing key."""


@dataclass(frozen=True)
class Resolved:
    keys: pa.Array
    """The table's keys in their order, spelled as in the source where an object was found."""
    changed: bool
    notes: list[str]


def resolve_keys(keys: pa.Array, listed: Batches, source: str) -> Resolved:
    """Matches the table's `keys` (unique, by ascending bytes) with the `listed` objects of the folder `source` (a URI).

    Memory is that of the table and of one batch of the listing. Raises Ambiguous, and DataError where no key matches
    an object.
    """
    search = _Search(keys, listed)
    every = list(ways(source, search.folders, _folders(keys)))
    for way in every:
        if not way.loose:
            search.match(way)
    for way in [] if search.enough else [way for way in every if way.loose]:
        try:
            search.match(way)
        except Ambiguous:
            if not search.enough:
                raise
    notes, unnamed = search.notes, search.unnamed()
    if len(keys) and len(search.missing) == len(keys):
        raise DataError(_nothing(keys, unnamed))
    if len(search.missing) and unnamed:
        key = keys[int(search.missing[0])].as_py()
        notes.append(f"no object has {len(search.missing)} of its {len(keys)} keys: {_beside(key, unnamed)}")
    return Resolved(search.resolved, search.resolved is not keys, notes)


class Ambiguous(DataError):
    """One key may mean two objects."""


class _Search:
    def __init__(self, keys: pa.Array, listed: Batches) -> None:
        self.keys, self._listed, self.resolved = keys, listed, keys
        self.notes: list[str] = []
        self.folders = 0
        matched = np.zeros(len(keys), np.bool_)
        for batch, begin, end in self._beside():
            rows = pc.index_in(batch, value_set=keys[begin:end]).drop_null().to_numpy()
            matched[begin + rows] = True
            self.folders = max(self.folders, _folders(batch))
        self.missing = np.flatnonzero(~matched)
        """The places in `keys` of those without an object so far."""

    @property
    def enough(self) -> bool:
        return len(self.keys) - len(self.missing) >= ENOUGH * len(self.keys)

    def match(self, way: Way) -> None:
        """Rewrites the missing keys and the free objects in this way, and matches those that are equal.

        Raises Ambiguous.
        """
        if not len(self.missing):
            return
        forms = way.table(self.keys.take(pa.array(self.missing))).dictionary_encode()
        object_of = self._objects(way, forms.dictionary)
        codes = forms.indices.to_numpy(zero_copy_only=False)
        hits = object_of[codes] >= 0
        if not hits.any():
            return
        rows, positions = self.missing[hits], object_of[codes[hits]]
        objects = self._take(positions)
        mask = np.zeros(len(self.keys), np.bool_)
        mask[rows] = True
        self.resolved = pc.replace_with_mask(self.resolved, pa.array(mask), objects)
        self.missing = self.missing[~hits]
        example = f"{self.keys[int(rows[0])].as_py()!r} is {objects[0].as_py()!r}"
        self.notes.append(f"matched {way.description}: {len(rows)} of its {len(self.keys)} keys ({example})")

    def unnamed(self) -> list[str]:
        """The keys of at most SHOWN objects that no row names."""
        unnamed_keys: list[str] = []
        for _, batch in self._free():
            unnamed_keys += (
                key for key in batch.slice(0, SHOWN).to_pylist() if not key.rpartition("/")[2].startswith(".")
            )
            if len(unnamed_keys) >= SHOWN:
                break
        return unnamed_keys[:SHOWN]

    def _objects(self, way: Way, forms: pa.Array) -> np.ndarray:
        """The place in the listing of the only object that becomes each of these forms, or -1, int64 [forms]."""
        object_places = np.full(len(forms), -1, np.int64)
        for places, batch in self._free():
            matched = pc.index_in(way.source(batch), value_set=forms)
            here = np.flatnonzero(matched.is_valid().to_numpy(zero_copy_only=False))
            codes = matched.drop_null().to_numpy()
            places_before, again = object_places[codes], np.ones(len(codes), np.bool_)
            again[np.unique(codes, return_index=True)[1]] = False
            again |= places_before >= 0
            if again.any():
                second = int(again.argmax())
                first = places_before[second]
                if first < 0:
                    first = places[here[(codes == codes[second]).argmax()]]
                raise Ambiguous(self._ambiguous(way, forms[int(codes[second])], first, second=places[here[second]]))
            object_places[codes] = places[here]
        return object_places

    def _ambiguous(self, way: Way, form: pa.StringScalar, first: int, *, second: int) -> str:
        """`form` is what a missing key and the objects at two places of the listing become."""
        missing = self.keys.take(pa.array(self.missing))
        key = missing[pc.index(way.table(missing), form).as_py()].as_py()
        objects = self._take(np.array([first, second])).to_pylist()
        return (
            f"data.table.key: the label file's {key!r} may be {objects[0]!r} or {objects[1]!r} of the source, matched "
            f"{way.description}: write the keys as the source has them, or take one of the two away."
        )

    def _take(self, places: np.ndarray) -> pa.Array:
        """The keys at these places of the listing."""
        order = np.argsort(places, kind="stable")
        ascending, begin, parts = places[order], 0, []
        for batch in self._listed():
            low, high = np.searchsorted(ascending, (begin, begin + len(batch)))
            parts.append(batch.take(pa.array(ascending[low:high] - begin)))
            begin += len(batch)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_arrays(parts).take(pa.array(back))

    def _free(self) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """The objects that no row names so far, with their places in the listing."""
        taken = self._taken()
        place = 0
        for batch, begin, end in self._beside():
            free = pc.is_null(pc.index_in(batch, value_set=self.keys[begin:end]))
            if len(taken):
                free = pc.and_(free, pc.invert(pc.is_in(batch, value_set=taken)))
            yield place + np.flatnonzero(free.to_numpy(zero_copy_only=False)), batch.filter(free)
            place += len(batch)

    def _taken(self) -> pa.Array:
        return self.resolved.filter(pc.not_equal(self.resolved, self.keys))

    def _beside(self) -> Iterator[tuple[pa.Array, int, int]]:
        """Batches of the listing, each with the begin and the end of the table's keys in its range: both are sorted."""
        end = 0
        for batch in self._listed():
            begin = self._first_not_below(batch[0].as_py(), end)
            end = self._first_not_below(batch[-1].as_py(), begin)
            if end < len(self.keys) and self.keys[end].as_py() == batch[-1].as_py():
                end += 1
            yield batch, begin, end

    def _first_not_below(self, key: str, low: int) -> int:
        high = len(self.keys)
        while low < high:
            middle = (low + high) // 2
            if self.keys[middle].as_py() < key:
                low = middle + 1
            else:
                high = middle
        return low


def _folders(keys: pa.Array) -> int:
    """The number of folders above the deepest key."""
    slashes = pc.max(pc.count_substring_regex(keys, pattern=r"[/\\]")).as_py()
    return slashes or 0


def _nothing(keys: pa.Array, unnamed: list[str]) -> str:
    key = keys[0].as_py()
    return (
        f"data.table.key: none of the label file's {len(keys)} keys is an object's: {_beside(key, unnamed)}. "
        "A key is the object's, relative to data.source; data.table.key names the column that has it."
    )


def _beside(key: str, unnamed: list[str]) -> str:
    """Words that show a key of the table beside the most similar object that no row names."""
    if not unnamed:
        return f"it has {key!r}, and every object of the source is in another row"
    similar = (get_close_matches(key, unnamed, n=1, cutoff=0.3) or unnamed)[0]
    return f"it has {key!r}, and the source {similar!r}, which no row names"
