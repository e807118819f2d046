"""Reads what terraform/ has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hcl2

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
CLOUDS = ("aws", "gcp")
MODULES = sorted(str(file.parent.relative_to(TERRAFORM)) for file in TERRAFORM.glob("modules/**/main.tf"))
EXAMPLES = [f"examples/{cloud}" for cloud in CLOUDS]
Body = dict[str, Any]


class Block(NamedTuple):
    """`resource "aws_s3_bucket" "this" { … }`: references are texts such as `${var.name}`."""

    kind: str
    labels: tuple[str, ...]
    body: Body


@cache
def blocks(folder: str) -> list[Block]:
    """Of all files of a module, or an example."""
    files = sorted((TERRAFORM / folder).glob("*.tf"))
    return [block for file in files for block in _blocks(hcl2.loads(file.read_text()))]


def of_kind(folder: str, kind: str, *labels: str) -> dict[str, Body]:
    """The blocks with these labels, by their last one."""
    found = (block for block in blocks(folder) if block.kind == kind and block.labels[: len(labels)] == labels)
    return {block.labels[-1]: block.body for block in found}


def everywhere(kind: str, *labels: str) -> dict[str, Body]:
    """The same of all modules and examples, by folder and last label."""
    return {
        f"{folder}: {name}": body
        for folder in (*MODULES, *EXAMPLES)
        for name, body in of_kind(folder, kind, *labels).items()
    }


def locals_of(folder: str) -> Body:
    return {name: value for block in blocks(folder) if block.kind == "locals" for name, value in block.body.items()}


def _blocks(document: Body) -> Iterator[Block]:
    for kind, entries in document.items():
        if isinstance(entries, list):
            for entry in entries:
                yield from _labelled(kind, (), entry)


def _labelled(kind: str, labels: tuple[str, ...], entry: Body) -> Iterator[Block]:
    if entry.get("__is_block__"):
        yield Block(kind, labels, _plain(entry))
        return
    for label, inner in entry.items():
        if isinstance(inner, dict):
            yield from _labelled(kind, (*labels, _text(label)), inner)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(name): _plain(inner) for name, inner in value.items() if not name.startswith("__")}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
