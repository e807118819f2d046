"""Fields of JSON documents, which may be labels."""

from __future__ import annotations

import json
from typing import Any

from job.errors import nearest

SHOWN = 20
"""The number of fields that an error names."""


class NoJson(ValueError):
    """The content is no JSON; the message says why."""


def parse_json(content: bytes | str) -> Any:
    """The parsed document. Raises NoJson for every fault of the content."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise NoJson("nested too deeply") from error
    except ValueError as error:  # also what is not UTF-8, and a number of thousands of digits
        raise NoJson(str(error).partition(":")[0]) from error


def field_of(document: Any, path: str) -> Any:
    """The value at a path: `a.b` is the field `a.b`, or the field `b` of `a`; None where there is none.

    The elements of a list are called 0, 1, …
    """
    if not path:
        return document
    if isinstance(document, list):
        document = {str(place): value for place, value in enumerate(document)}
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    ends = (at for at, character in enumerate(path) if character == ".")
    below = (field_of(document[path[:at]], path[at + 1 :]) for at in ends if path[:at] in document)
    return next((value for value in below if value is not None), None)


def paths_of(document: Any) -> list[str]:
    """The paths of all fields of the document, and of the fields of those that are objects."""
    if not isinstance(document, dict):
        return []
    below = [f"{name}.{inner}" for name, value in document.items() if isinstance(value, dict) for inner in value]
    return [*document, *below]


def name_a_field(setting: str, name: str, document: dict[str, Any], *, where: str) -> str:
    """The error text for an object in place of a name."""
    fields = paths_of(document)[:SHOWN]
    role = setting.rpartition(".")[2]
    best = next((field for field in fields if field == role or nearest(role, [field])), fields[0] if fields else role)
    return (
        f"{setting}: {name} is an object in {where}, not a name: each record would be a class of its own. Name one of "
        f"its fields ({', '.join(fields) or 'it has none'}), for example {setting}: {name}.{best}."
    )
