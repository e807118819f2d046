"""YAML whose names stay as they are spelled: a class `no`, a column `0`, which are false and a number to YAML."""

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
    """As it stands in the file."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Refuses a key that is there twice, of which YAML would take the last; one that `<<` brings may be."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                told = f"the key {key.value!r} is there twice (first in line {lines[key.value]}): keep one"
                raise yaml.constructor.ConstructorError(problem=told, problem_mark=key.start_mark)
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
    """As yaml.safe_load, but keys of mappings are strings, and scalars other than text are Spelled: see `settled`."""
    return yaml.load(text, _Loader)


def settled(value: Any, wanted: Any) -> Any:
    """What a document of Spelled scalars says: their text where `wanted` (a type, as annotations have it) has names
    there and nothing that is no text, else their value.
    """
    options = _options(wanted)
    if isinstance(value, Spelled):
        return value.text if _is_name(options, value.value) else value.value
    if isinstance(value, list):
        inner = [get_args(option)[0] for option in options if get_origin(option) in (list, tuple, set)]
        return [settled(item, inner[0] if inner else Any) for item in value]
    if isinstance(value, dict):
        return {key: settled(item, _wanted_at(key, options)) for key, item in value.items()}
    return value


def _is_name(options: list[Any], value: Any) -> bool:
    """A number is a name where only text may be; so is `yes`, unless there may be true."""
    return str in options and not any(option in (bool, int, float) and isinstance(value, option) for option in options)


def _wanted_at(key: str, options: list[Any]) -> Any:
    """The type of what a mapping has at this key; of several models that may be meant, the first that knows it."""
    for option in options:
        if get_origin(option) is dict:
            return get_args(option)[1]
        if isinstance(option, type) and issubclass(option, BaseModel):
            for name, field in option.model_fields.items():
                if key in (field.alias or name, name):
                    return field.annotation
    return Any


def _options(wanted: Any) -> list[Any]:
    """The types of a union, without what Annotated adds."""
    if get_origin(wanted) is Annotated:
        return _options(get_args(wanted)[0])
    if get_origin(wanted) in (Union, types.UnionType):
        return [option for one in get_args(wanted) for option in _options(one)]
    return [wanted]
