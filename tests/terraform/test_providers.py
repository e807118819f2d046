"""Terraform's code against the schemas of its providers, and names against where they are declared.

`terraform validate` does the same, where the providers' plugins are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.hcl import EXAMPLES, MODULES, TERRAFORM, Body, blocks, locals_of, of_kind

SCHEMAS = Path(__file__).parent / "schemas"
OF_ALL = {"count", "depends_on", "for_each", "lifecycle", "provider"}
"""Arguments that Terraform itself gives to each resource and data source."""
OF_CALLS = {"count", "depends_on", "for_each", "providers", "source", "version"}
REFERENCE = re.compile(r"(?<![\w.])(data\.)?((?:aws|google|helm)_\w+)\.(\w+)(?:\[[^]]*\])?(?:\.([a-z_]\w*))?")
FOLDERS = [*MODULES, *EXAMPLES]


@cache
def schemas() -> dict[tuple[str, str], Body]:
    """By kind (`resource`, `data`) and type."""
    documents = [json.loads(file.read_text()) for file in SCHEMAS.glob("*.json")]
    parts = (("resource", "resource_schemas"), ("data", "data_source_schemas"))
    return {
        (kind, name): schema["block"]
        for document in documents
        for kind, part in parts
        for name, schema in document[part].items()
    }


def mistakes(body: Body, schema: Body) -> Iterator[str]:
    attributes, inner = schema["attributes"], schema.get("block_types", {})
    repeated = [block for group in body.get("dynamic", []) for block in group.items()]
    children = [*body.items(), *((name, block["content"]) for name, block in repeated)]
    names = {name for name, _ in children} - {"dynamic"}
    for name in names - inner.keys():
        if attributes.get(name, {"computed": True}).get("computed"):
            yield f"no argument {name}"
    required = {name for name, each in attributes.items() if each.get("required")}
    for name in (required | {name for name, each in inner.items() if each.get("min_items")}) - names:
        yield f"{name} is missing"
    for name, found in children:
        for child in found if name in inner else []:
            yield from (f"{name}: {mistake}" for mistake in mistakes(child, inner[name]["block"]))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_providers_know_every_resource_and_argument(folder: str) -> None:
    for block in blocks(folder):
        if block.kind in ("resource", "data"):
            body = {name: value for name, value in block.body.items() if name not in OF_ALL}
            assert list(mistakes(body, schemas()[block.kind, block.labels[0]])) == [], block.labels


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_referred_to_is_there(folder: str) -> None:
    declared = {(block.kind, *block.labels) for block in blocks(folder)}
    for data, kind, name, attribute in REFERENCE.findall(code(folder)):
        what = "data" if data else "resource"
        assert (what, kind, name) in declared
        schema = schemas()[what, kind]
        assert attribute in {"", *schema["attributes"], *schema.get("block_types", {})}, f"{kind}.{name}.{attribute}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_and_local_is_declared_and_used(folder: str) -> None:
    assert used(folder, "var") == set(of_kind(folder, "variable"))
    assert used(folder, "local") == set(locals_of(folder))


@pytest.mark.parametrize("folder", EXAMPLES)
def test_a_module_gets_what_it_asks_for(folder: str) -> None:
    calls = of_kind(folder, "module")
    for name, call in calls.items():
        module = str((TERRAFORM / folder / call["source"]).resolve().relative_to(TERRAFORM))
        variables = of_kind(module, "variable")
        wanted = {variable for variable, body in variables.items() if "default" not in body}
        assert wanted <= call.keys() - OF_CALLS <= variables.keys(), name
        outputs = set(re.findall(rf"\bmodule\.{name}\.(\w+)", code(folder)))
        assert outputs <= of_kind(module, "output").keys(), name
    assert used(folder, "module") <= calls.keys()


def used(folder: str, root: str) -> set[str]:
    return set(re.findall(rf"(?<![\w.]){root}\.(\w+)", code(folder)))


@cache
def code(folder: str) -> str:
    """Its expressions, a line each."""
    return "\n".join(text for block in blocks(folder) for text in expressions(block.body))


def expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name  # of a map: an expression, too
            yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)
    elif isinstance(value, str):
        yield value
