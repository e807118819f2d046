"""Reads a job file: YAML and overrides, with errors that name the key, its value and the nearest known key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from job.config import Job
from job.config.spelled import Spelled, load_yaml, settled
from job.errors import JobError, nearest

Model = TypeVar("Model", bound=BaseModel)
JOB_KEYS = "name:, data:, store:"
FEW = 10
"""A section with at most this many keys is listed as a whole where a key is unknown."""
HINTS = {
    "'\\t'": " YAML is indented with blanks, not with tabs.",
    "scanning an alias": " What begins with `*` is put in quotes.",
    "the tag '!": " What begins with `!` is put in quotes.",
    "scanning a tag": " What begins with `!` is put in quotes.",
}
"""Hints by parts of the YAML library's messages."""


def load_job(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Job:
    """Reads a job file and applies `a.b=c` overrides (values are YAML). Raises JobError.

    The YAML files of a folder (such as a mounted ConfigMap) are merged in the order of their names: mappings key by
    key; everything else is replaced by the later file.
    """
    document: dict[str, Any] = {}
    for file in _job_files(Path(path)):
        document = _merged(document, read_mapping(file, "job file", JOB_KEYS))
    return _check(document, overrides, where=str(path))


def parse_job(text: str, overrides: list[str] | tuple[str, ...] = (), where: str = "job file") -> Job:
    return _check(_parse(text, where, "job file", keys=JOB_KEYS), overrides, where)


def dump_job(job: Job) -> str:
    """The job file as YAML: the given settings with overrides applied, without defaults."""
    given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def read_mapping(file: Path, what: str, keys: str) -> dict[str, Any]:
    """The content of a YAML file that is a mapping. Errors call it `what`, and name some of its `keys`. Raises
    JobError.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise JobError(f"{file}: the {what} can't be read: {reason}.") from error
    return _parse(text, str(file), what, keys=keys)


def checked(model: type[Model], document: dict[str, Any], where: str) -> Model:
    """The document as a checked `model`. Raises JobError with a line for each wrong key."""
    try:
        return model.model_validate(settled(document, model))
    except ValidationError as error:
        raise JobError("\n".join(_explain(model, where, item) for item in error.errors())) from None


def _job_files(path: Path) -> list[Path]:
    """The job file itself, or those of a folder, without the hidden files of a ConfigMap's volume."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if _is_yaml(file))
    if not files:
        raise JobError(f"{path}: there is no job file (*.yaml) in this folder.")
    return files


def _is_yaml(file: Path) -> bool:
    return file.suffix in (".yaml", ".yml") and not file.name.startswith(".") and file.is_file()


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _parse(text: str, where: str, what: str, *, keys: str) -> dict[str, Any]:
    try:
        document = load_yaml(text)
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())
        hint = "".join(hint for part, hint in HINTS.items() if part in message)
        raise JobError(f"{where}: not valid YAML: {message}.{hint}") from error
    if not isinstance(document, dict):
        given = document.value if isinstance(document, Spelled) else document
        raise JobError(f"{where}: a {what} is a mapping ({keys}, …), got {type(given).__name__}.")
    return document


def _check(document: dict[str, Any], overrides: list[str] | tuple[str, ...], where: str) -> Job:
    for override in overrides:
        _apply_override(document, override)
    return checked(Job, document, where)


def _apply_override(document: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z_]\w*(\.[\w-]+)*", path):
        raise JobError(f"--set {override}: write it as a.b=value, for example train.seed=1.")
    *parents, last = path.split(".")
    node = document
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    try:
        node[last] = load_yaml(value)
    except yaml.YAMLError as error:
        raise JobError(f"--set {override}: the value is not valid YAML.") from error


def _explain(model: type[BaseModel], where: str, item: Any) -> str:
    location = [str(part) for part in item["loc"] if not _is_union_tag(part)]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = nearest(location[-1], known) or (f" (known: {', '.join(known)})" if len(known) <= FEW else "")
        return f"{where}: {path}: unknown key{near}."
    if item["type"] == "missing":
        return f"{where}: {path}: this key is needed and was not given."
    message, given = item["msg"].removeprefix("Value error, "), item["input"]
    if item["type"] in ("model_type", "dict_type"):
        message = f"settings are wanted here ({{a: b}}, or lines that are indented){'; it is empty' * (given is None)}"
    is_shown = isinstance(given, str) and repr(given) in message
    got = f", got {given!r}" if isinstance(given, (str, int, float, bool)) and not is_shown else ""
    return f"{where}: {path or model.__name__.lower()}: {message[0].lower()}{message[1:]}{got}."


def _is_union_tag(part: Any) -> bool:
    """Whether a part of an error's path is Pydantic's tag for a branch of a union, and not a key of the user's."""
    return isinstance(part, str) and (
        part in ("Weights", "int", "bool") or part.startswith(("literal[", "dict[", "function-"))
    )


def _known_keys(model: Any, path: list[str]) -> list[str]:
    for name in path:
        if name.isdigit():  # the place in a list, whose type is known already
            continue
        field = model.model_fields.get(name)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        candidates = [getattr(c, "__origin__", c) for c in candidates]  # without what is Annotated
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items()]
