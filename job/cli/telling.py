"""What a person is told on standard error, and the one document on standard output."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from typing import Any

import click

from job.errors import JobError


def narrator() -> Any:
    from job.report.console import Narrator

    return Narrator(console(stderr=True))


def console(stderr: bool) -> Any:
    from rich.console import Console

    made = Console(stderr=stderr)
    if not made.is_terminal:  # a log or a pipe: nothing is folded or cut to 80 columns
        made.width = 4096
    return made


def finish(result: dict[str, Any], as_json: bool, published: tuple[str, float] | None = None) -> None:
    from job.report.console import comparison_table, result_table, unknown_words

    to = console(stderr=True)
    if result["model"] or result["state"] == "head":
        to.print()
        to.print(result_table(result, published))
    if "comparison" in result:
        to.print()
        to.print(comparison_table(result["comparison"]))
    if "words" in result:
        to.print(f"\nWords {unknown_words(result['words'])}", highlight=False, markup=False, soft_wrap=True)
    to.print(f"\nrun    {result['run']}", highlight=False, soft_wrap=True)
    if result["model"]:
        to.print(f"model  {result['model']}", highlight=False, soft_wrap=True)
        for name, uri in result.get("formats", {}).items():
            to.print(f"       {uri or f'(no {name}: see above)'}", highlight=False, soft_wrap=True)
        command = [own_name(), "predict", result["model"]]
        task = result.get("task", "image")
        example = shlex.quote(result[task]) if task in result else f"{task.upper()}…"
        called = {"image": "an image", "text": "a text"}[task]
        to.print(f"\nClassify {called}:\n  {shlex.join(command)} {example}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(result, indent=1))


def own_name() -> str:
    """What the user has to type: the path, where `thaw` alone would not be found."""
    return "thaw" if shutil.which("thaw") else sys.argv[0]


def need(extra: str, *modules: str) -> None:
    """Raises JobError where what only this verb needs is not installed."""
    from importlib.util import find_spec

    try:
        missing = [module for module in modules if find_spec(module) is None]
    except ModuleNotFoundError as error:  # the package that the module is in
        missing = [str(error.name)]
    if missing:
        raise JobError(f"{missing[0]} is not installed: pip install 'thaw[{extra}]'.")
