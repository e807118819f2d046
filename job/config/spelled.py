"""Reads YAML in which names keep their spelling: a class `no`, a column `0`, which YAML takes for false and a
number.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel


@dataclass(frozen=True)
class Spelled:
    """A scalar that YAML takes for something other than text."""

    value: Any
    text: str
    """The scalar as it is written in the file."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Refuses duplicate keys, of which YAML would take the last. Keys that `<<` merges may be duplicates."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                problem = f"the key {key.value!r} is there twice (first in line {lines[key.value]}): keep one"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        if not isinstance(node, yaml.ScalarNode) or isinstance(value, (str, Spelled)) or value is None:
            return value
        return Spelled(value, node.value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):  # keys are names
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Loads YAML as yaml.safe_load does, but keys are strings, and scalars other than text are Spelled (see
    `settled`).
    """
    return yaml.load(text, _Loader)


def settled(value: Any, annotation: Any) -> Any:
    """Replaces the Spelled scalars of a document: by their text where the type `annotation` allows only text there,
    else by their value.
    """
    options = _options(annotation)
    if isinstance(value, Spelled):
        return value.text if _is_name(options, value.value) else value.value
    if isinstance(value, list):
        inner = [get_args(option)[0] for option in options if get_origin(option) in (list, tuple, set)]
        return [settled(item, inner[0] if inner else Any) for item in value]
    if isinstance(value, dict):
        return {key: settled(item, _annotation_at(key, options)) for key, item in value.items()}
    return value


def _is_name(options: list[Any], value: Any) -> bool:
    """Whether a scalar is a name: where text is allowed, and its own type (a number, a truth value) is not."""
    return str in options and not any(option in (bool, int, float) and isinstance(value, option) for option in options)


def _annotation_at(key: str, options: list[Any]) -> Any:
    """The annotation of a mapping's value at this key, by the first of the types in `options` that knows the key."""
    for option in options:
        if get_origin(option) is dict:
            return get_args(option)[1]
        if isinstance(option, type) and issubclass(option, BaseModel):
            for name, field in option.model_fields.items():
                if key in (field.alias or name, name):
                    return field.annotation
    return Any


def _options(annotation: Any) -> list[Any]:
    """The member types of a union, without Annotated."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for member in get_args(annotation) for option in _options(member)]
    return [annotation]
