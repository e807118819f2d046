"""Documents in the store: JSON with the fields of a dataclass, which are checked on reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from job.errors import BrokenDocument, ObjectMissing
from job.storage import Store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Document = DataclassInstance | Sequence[DataclassInstance]

T = TypeVar("T")
OMITTED = {"omitted": "where it is None"}
"""The metadata of a field that is not written where it is None."""


def read_document(store: Store, key: str, kind: type[T]) -> T | None:
    """The document; None where it is missing. Raises BrokenDocument where its fields are not those of `kind`."""
    try:
        content = store.read(key)
    except ObjectMissing:
        return None
    return decoded(content, kind, f"{store.uri}{key}")


def write_document(store: Store, key: str, document: Document) -> None:
    store.write(key, encoded(document))


def decoded(content: bytes, kind: type[T], where: str, *, remedy: str = "delete it, and run again") -> T:
    """The document in `content`, which was read from `where`. Raises BrokenDocument, which names the `remedy`."""
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # mypy takes no class for a Hashable
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise BrokenDocument(f"{where} is not what it should be ({what}): {remedy}.") from error


def encoded(document: Document) -> bytes:
    return json.dumps(plain(document), indent=1).encode()


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if is_dataclass(value):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        absent = {part.name for part in fields(value) if part.metadata == OMITTED and parts[part.name] is None}
        return {name: plain(part) for name, part in parts.items() if name not in absent}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
