"""Documents in the store: JSON with the fields of a dataclass, which are checked on reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from job.errors import ObjectMissing, StorageError
from job.storage import Store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Document = DataclassInstance | Sequence[DataclassInstance]

T = TypeVar("T")


def read_document(store: Store, key: str, kind: type[T]) -> T | None:
    """The document; None where it is missing. Raises StorageError where its fields are not those of `kind`."""
    try:
        content = store.read(key)
    except ObjectMissing:
        return None
    return decoded(content, kind, f"{store.uri}{key}")


def write_document(store: Store, key: str, document: Document) -> None:
    store.write(key, encoded(document))


def decoded(content: bytes, kind: type[T], where: str) -> T:
    """The document in `content`, which was read from `where`. Raises StorageError."""
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # mypy takes no class for a Hashable
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        what = f"{field}: {first['msg']}" if field else first["msg"]
        raise StorageError(f"{where} is not what it should be ({what}): delete it, and run again.") from error


def encoded(document: Document) -> bytes:
    plain = [asdict(part) for part in document] if isinstance(document, Sequence) else asdict(document)
    return json.dumps(plain, indent=1).encode()


def without_absent(document: DataclassInstance) -> dict[str, Any]:
    """The fields of the document without those that are None by default, and are."""
    absent = {field.name for field in fields(document) if field.default is None}
    return {name: value for name, value in asdict(document).items() if value is not None or name not in absent}


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
