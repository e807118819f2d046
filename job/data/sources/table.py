"""The label table of the layout `table`: labels of objects, or texts with their labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job.config import Data, Table
from job.data.sources.columns import NoTable, read_columns
from job.data.sources.headings import NoColumn, alike, place_of
from job.data.sources.keys import Batches, resolve_keys
from job.data.splits import split_called
from job.errors import DataError, ObjectMissing, StorageError, nearest
from job.storage import Store, open_store, split_uri
from job.wording import first_of

MISSING = ("nan", "NaN", "NAN", "NaT", "<NA>", "#N/A")
"""Words that programs write into a column of text where there is no value."""
TABLES = re.compile(r".+\.(csv|tsv|txt|jsonl?|ndjson|parquet|pq|xlsx?)(\.(gz|bz2|xz|zst|zip))?")
LOOKED_AT, NAMED = 1000, 3
"""Objects that are searched for tables where the given one is missing, and the number of tables that an error names."""
LETTERS = 30
"""Letters of a value that an error shows."""
LISTED = 20
"""Columns that an error names."""


@dataclass(frozen=True)
class LabelTable:
    rows: pa.Table
    """The rows by ascending bytes of the key. Columns key, label, group and split (null where the file has none), and
    text where `data.table.text` is set; all strings.
    """
    uri: str
    notes: list[str]
    """Assumptions about the file, each a sentence."""


def read_table(data: Data, source: Store) -> LabelTable:
    """Reads the label table. For texts without a column of keys, the key is a digest of the text. The key of a row
    without one is "". Raises DataError.
    """
    spec = data.label_table
    store, key = source, spec.file
    if "://" in spec.file:
        root, key = split_uri(spec.file)
        store = open_store(root, source.access)
    uri = f"{store.uri}{key}"
    try:
        content = store.read(key)
    except ObjectMissing as error:
        raise DataError(f"data.table.file: there is no label file {uri}{_tables_in(store)}.") from error
    roles: dict[str, int] = {}

    def choose(headings: list[str]) -> list[int]:
        roles.update(_places(spec, headings, uri))
        return list(roles.values())

    names = list(filter(None, (spec.key, spec.label, spec.group, spec.split, spec.text)))
    try:
        chosen = read_columns(content, key, data.encoding, expected=names, choose=choose)
    except NoTable as error:
        raise DataError(f"data.table.file: {uri} {error}.") from error
    except NoColumn as error:
        raise DataError(str(error)) from error
    columns = dict(zip(roles, chosen.values, strict=True))
    if not len(columns["label"]):
        raise DataError(f"data.table.file: {uri} has a header and no rows.")
    del content
    try:
        rows, notes = _filled(columns, spec)
    except NoTable as error:
        raise DataError(f"data.table.file: {uri} {error}.") from error
    return LabelTable(rows.sort_by("key"), uri, [f"{uri} {note}." for note in (*chosen.notes, *notes)])


def object_reader(data: Data, source: Store) -> Callable[[str, str], bytes]:
    """A function (key, version) -> the encoded example, which is an object or a text of the table. The function raises
    ObjectMissing where this version is gone.
    """
    if data.label_table.text is None:
        return source.read
    table = read_table(data, source).rows
    rows = {key: row for row, key in enumerate(table["key"].to_pylist())}

    def read(key: str, version: str) -> bytes:
        text = table["text"][rows[key]].as_py() if key in rows else None
        if text is None or text_version(text) != version:
            raise ObjectMissing(f"{key} is not what was listed: the table was written since.")
        return text.encode()

    return read


def with_resolved_keys(table: LabelTable, listed: Batches, source: str) -> LabelTable:
    """The table with its keys spelled as those of the objects below `source` (a URI); the notes say how they were
    matched. Raises DataError where no key matches an object, or one may match two.
    """
    rows = table.rows
    keyless = pc.sum(pc.equal(rows["key"], "")).as_py()
    if keyless == len(rows):
        raise DataError(f"{table.uri}: no row has a key: data.table.key names the column that has them.")
    keys = rows["key"].combine_chunks()[keyless:]
    first_of = np.concatenate([[True], pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)])
    resolved = resolve_keys(keys.filter(pa.array(first_of)) if not first_of.all() else keys, listed, source)
    if resolved.changed:
        again = resolved.keys.take(pa.array(np.cumsum(first_of) - 1))
        column = pa.chunked_array([pa.array([""] * keyless, pa.string()), again])
        rows = rows.set_column(0, "key", column).sort_by("key")
    return replace(table, rows=rows, notes=[*table.notes, *(f"{table.uri}: {note}." for note in resolved.notes)])


def text_version(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _tables_in(store: Store) -> str:
    """Words that name tables among the first objects of the store; empty where there are none."""
    try:
        listed = [info.key for info in islice(store.list(), LOOKED_AT) if TABLES.fullmatch(info.key.lower())]
    except StorageError:
        return ""
    return f"; there is {first_of(listed, NAMED)}" if listed else ""


def _places(spec: Table, headings: list[str], uri: str) -> dict[str, int]:
    """The place of the column of each role that has one."""
    names = {"key": spec.key, "label": spec.label, "group": spec.group, "split": spec.split, "text": spec.text}
    places = {}
    for role, name in names.items():
        if name is None:
            continue
        place = place_of(name, headings)
        if place is not None:
            places[role] = place
        elif not _keyless(role, spec) or alike(name, headings):
            raise NoColumn(_no_column(role, name, headings, uri=uri))
    return places


def _keyless(role: str, spec: Table) -> bool:
    return role == "key" and spec.text is not None and spec.key == Table.model_fields["key"].default


def _no_column(role: str, name: str, headings: list[str], *, uri: str) -> str:
    if several := alike(name, headings):
        candidates = ", ".join(map(repr, several))
        return f"data.table.{role}: {uri} has {len(several)} columns that {name!r} may be ({candidates}): rename one."
    return (
        f"data.table.{role}: {uri} has no column {name!r}{nearest(name, headings)}; "
        f"it has {first_of([heading[:60] for heading in headings], LISTED)}."
    )


def _filled(columns: dict[str, pa.ChunkedArray], spec: Table) -> tuple[pa.Table, list[str]]:
    """The rows with all columns, and notes about them."""
    count = len(columns["label"])
    filled = {role: pc.fill_null(column, "") for role, column in columns.items()}
    notes = []
    for role in [role for role in filled if role != "text"]:
        missing = pc.is_in(filled[role], value_set=pa.array(MISSING))
        if without := pc.sum(missing).as_py():
            what = "labels" if role == "label" else f"values of data.table.{role}"
            finding = f"has {what} such as {filled[role].filter(missing)[0].as_py()!r} in {without} of {count} rows"
            notes.append(f"{finding}, which count as none")
            filled[role] = pc.if_else(missing, "", filled[role])
    if "split" in filled:
        filled["split"] = _sides(filled["split"], spec)
    for role in ("key", "group", "split"):
        filled.setdefault(role, pa.nulls(count, pa.string()))
    if spec.text is not None and "key" not in columns:
        filled["key"] = pa.array(map(text_version, filled["text"].to_pylist()), pa.string())
    order = ["key", "label", "group", "split", *(["text"] if spec.text is not None else [])]
    return pa.table({role: filled[role] for role in order}), notes


def _sides(column: pa.ChunkedArray, spec: Table) -> pa.ChunkedArray:
    """The column with known spellings of splits replaced by `train`, `validation` or `test`; other values stay as they
    are. Raises NoTable where no row names a split.
    """
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    sides = [split_called(value) for value in values]
    if not any(sides):
        shown = ", ".join(repr(value[:LETTERS]) for value in values[:NAMED])
        raise NoTable(
            f"has {shown} in the column {spec.split!r} (data.table.split), and none of train, validation and test: a "
            "column has to have these"
        )
    names = [side or value for side, value in zip(sides, values, strict=True)]
    return pa.chunked_array([pa.array(names, pa.string()).take(encoded.indices)])
