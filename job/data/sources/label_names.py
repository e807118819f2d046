"""`data.packed.names`: names for the numbers that a packed source has as labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from job.config import Data
from job.data.caution import Caution, shown
from job.data.sources.fields import NoJson, parse_json
from job.errors import DataError, ObjectMissing
from job.storage import Store, open_store, split_uri

UNNAMED = "its label has no name in data.packed.names"
NUMBERED = re.compile(r"\s*(\d{1,9})\s*[:,\t]\s*(.*)")
"""A line such as `0:roses`."""
LABEL_MAP = """
name: "label_map.proto" syntax: "proto2"
message_type { name: "Item"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "id" number: 2 type: TYPE_INT32 }
  field { name: "display_name" number: 4 type: TYPE_STRING } }
message_type { name: "LabelMap"
  field { name: "item" number: 1 type: TYPE_MESSAGE type_name: ".Item" label: LABEL_REPEATED } }
"""
"""The fields of object_detection/protos/string_int_label_map.proto that hold names."""


class LabelNames:
    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._known = set(names.values())

    def name(self, label: str) -> str | None:
        """The name for a label that is a number; a label that is a known name stays the same. None for all others."""
        if re.fullmatch(r"-?[0-9]{1,18}", label) and (name := self._names.get(int(label))):
            return name
        return label if label in self._known else None


def named_in_part(data: Data, classes: list[str]) -> Iterator[Caution]:
    """A caution where some classes of packed files are numbers and others names. (Digits beside single letters are
    characters, not numbers.)
    """
    numbers = [label for label in classes if label.isdecimal()]
    names = [label for label in classes if not label.isdecimal() and len(label) > 1]
    if data.is_packed and numbers and names:
        yield Caution(
            "data.packed.label",
            f"some classes are numbers ({shown(numbers)}) and others names ({shown(names)}): where some files have "
            "names for their numbers and others not, two classes are made of each. data.packed.names names numbers.",
        )


def names_key(data: Data) -> str | None:
    """The key of the file of names, where that is below the source."""
    names = data.record_names.names
    return names if isinstance(names, str) and "://" not in names else None


def read_names(data: Data, source: Store) -> LabelNames | None:
    """The names of numbers; None where numbers stay numbers. Raises DataError for a file that is missing or empty."""
    given = data.record_names.names
    if given is None:
        return None
    if isinstance(given, dict):
        return LabelNames(given)
    if isinstance(given, list):
        return LabelNames(_checked(enumerate(given), "data.packed.names"))
    store, key = source, given
    if "://" in given:
        root, key = split_uri(given)
        store = open_store(root)
    where = f"data.packed.names: {store.uri}{key}"
    try:
        content = store.read(key)
    except ObjectMissing as error:
        raise DataError(f"{where} is not there.") from error
    try:
        return LabelNames(_checked(_parse(content), where))
    except (ValueError, NoJson) as error:
        raise DataError(
            f"{where} can't be read as names: {error}. A name on each line, the first for 0, is enough; or `0:name` "
            "lines, a JSON list or object, or a label map (.pbtxt)."
        ) from error


def _checked(names: Iterable[tuple[int, str]], where: str) -> dict[int, str]:
    """The names by number. Raises DataError where two numbers have one name: their classes would become one."""
    names_by_number, numbers = dict[int, str](), dict[str, int]()
    for number, name in names:
        if numbers.setdefault(name, number) != number:
            raise DataError(
                f"{where}: {numbers[name]} and {number} are both called {name!r}, and would be one class. Give them "
                "names of their own, or write a mapping ({0: cat, 1: cat}) if that is what is meant."
            )
        names_by_number[number] = name
    return names_by_number


def _parse(content: bytes) -> list[tuple[int, str]]:
    """The (number, name) pairs of a file of names. Raises ValueError."""
    text = content.decode("utf-8-sig").strip()
    if text.startswith(("{", "[")):
        return _of_json(parse_json(text.encode()))
    if re.search(r"^\s*item\s*\{", text, re.MULTILINE):
        return _of_label_map(text)
    lines = text.splitlines()
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(line[1]), line[2].strip()) for line in numbered if line]
    if len(pairs) < len(lines):
        pairs = [(number, line.strip()) for number, line in enumerate(lines)]
    pairs = [(number, name) for number, name in pairs if name]
    if not pairs:
        raise ValueError("it is empty")
    return pairs


def _of_json(document: Any) -> list[tuple[int, str]]:
    """The pairs of a list of names, or of an object that maps numbers to names or names to numbers."""
    if isinstance(document, list):
        document = dict(enumerate(document))
    if isinstance(document, dict) and all(isinstance(value, int) for value in document.values()):
        document = {number: name for name, number in document.items()}
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document.values()):
        raise ValueError("its values are not names")
    return [(int(number), name) for number, name in document.items()]


def _of_label_map(text: str) -> list[tuple[int, str]]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(LABEL_MAP, descriptor_pb2.FileDescriptorProto()))
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("LabelMap"))()
    try:
        items = text_format.Parse(text, message, allow_unknown_field=True).item
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error
    return [(item.id, item.display_name or item.name) for item in items if item.display_name or item.name]
