"""The class name for a label value: of a table, a field of JSON, a feature or a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

INVISIBLE = "\0\u200b\u200c\u200d\u2060\ufeff"
"""Invisible characters that are no blanks in Unicode."""
BLANK = INVISIBLE + "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
LISTS, TRUTHS = (list, tuple, set, np.ndarray), (bool, np.bool_)
SHOWN, LETTERS = 8, 200
"""Fields of an object that an error names, and their letters."""


class NoName(ValueError):
    """A value that can't be a name. The message follows the words "the label", for example "is not UTF-8"."""


def name_of(value: Any) -> str | None:
    """The name for a value, the same from every kind of file; None where there is none (null, NaN).

    Text and UTF-8 bytes stay as they are. A whole number has no fraction (1.0 is `1`), any other number its fewest
    digits; a truth value is `true` or `false`. Raises NoName for a list, an object, or bytes of another encoding.
    """
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            value.encode()  # fails for half a character (a surrogate), which JSON may hold
            return value
    except UnicodeError as error:
        raise NoName("is not UTF-8") from error
    if type(value) is int:
        return str(value)
    if isinstance(value, LISTS):
        raise NoName(f"is a list ({len(value)} values)")
    if isinstance(value, dict):
        fields = ", ".join(str(name) for name in list(value)[:SHOWN])
        raise NoName(f"is an object ({fields[:LETTERS] or 'empty'})")
    if value is None or value != value:  # NaN alone is not equal to itself
        return None
    if isinstance(value, TRUTHS):
        return str(value).lower()
    try:
        return str(int(value)) if value == int(value) else str(value)
    except (TypeError, ValueError, OverflowError):  # a date, or infinity
        return str(value)


def trimmed(name: str | None) -> str | None:
    """A name without the blanks and invisible characters at its ends; None where nothing is left."""
    return (name.strip(BLANK) or None) if name else None


def names_of(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The names of a column's values, strings [n], null where a value has none. Raises NoName for the first value that
    can't be a name. Each distinct value is named once, whatever the number of rows.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except pa.ArrowNotImplementedError as error:
            raise NoName(f"is of a kind that can't be a name ({column.type})") from error
    return pa.array(map(name_of, values_of(column.dictionary)), pa.string()).take(column.indices)


def values_of(column: pa.Array) -> list[Any]:
    """A column's values as `name_of` takes them. Text comes as bytes, since a file's text need not be valid UTF-8.
    float32 and float16 stay NumPy's: as Python's numbers they would have more digits than were written.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string)):
        return column.view(pa.binary() if pa.types.is_string(kind) else pa.large_binary()).to_pylist()
    if pa.types.is_string_view(kind):
        return pc.cast(column, pa.binary_view()).to_pylist()
    if pa.types.is_temporal(kind):
        return pc.cast(column, pa.string()).to_pylist()
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return list(column.to_numpy(zero_copy_only=False))
    return column.to_pylist()
