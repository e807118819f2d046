"""What a label value is called, wherever it lies: in a table, in a field of JSON, in a feature, in a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

INVISIBLE = "\0\u200b\u200c\u200d\u2060\ufeff"
"""Characters that nobody sees, and that are no blanks to Unicode."""
BLANK = INVISIBLE + "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
LISTS, TRUTHS = (list, tuple, set, np.ndarray), (bool, np.bool_)
SHOWN, LETTERS = 8, 200
"""Fields of an object that an error names, and their letters."""


class NoName(ValueError):
    """What can't be a name; its text follows the words "the label": "is not UTF-8"."""


def name_of(value: Any) -> str | None:
    """The name for a value, the same from every kind of file; None where there is none (null, NaN).

    Text and UTF-8 bytes as they are; a whole number without its fraction (1.0 is `1`), any other with its fewest
    digits, and a truth value `true` or `false`. Raises NoName for a list, an object, or bytes of another encoding.
    """
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            value.encode()  # half a character, as JSON may have it, is none
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
    """A name without the blanks and invisible characters at its ends; None where nothing else is in it."""
    return (name.strip(BLANK) or None) if name else None


def names_of(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The names of a column's values, null where one has none: strings [n]. Raises NoName for its first that can't be
    one. Each value that occurs is named once, whatever the number of rows.
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
    """A column's values as `name_of` takes them: text as bytes, for a file can claim that what is no UTF-8 were text;
    float32 and float16 as they are, for as Python's numbers they have more digits than were written.
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
