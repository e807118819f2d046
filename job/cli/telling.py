"""What a person is told on standard error, and the one document on standard output."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

from job.cli.group import LOG, LOGS
from job.errors import JobError

if TYPE_CHECKING:
    from job.demo import DemoExtras
    from job.run.outcome import RunOutcome
    from job.telemetry.narrator import Narrator


def narrator() -> Narrator:
    """Turns the events of its bus into lines on standard error; entered, it also shows the stages that tell nothing."""
    from job.run.events import Bus
    from job.telemetry.narrator import Narrator
    from job.telemetry.output import JsonOutput, TextOutput

    if logs_json():
        return Narrator(Bus(), JsonOutput(_own_stderr()))
    to = console(stderr=True)
    to.file = _own_stderr()
    return Narrator(Bus(), TextOutput(to))


def _own_stderr() -> TextIO:
    """Standard error, also while the process's is closed (job.libraries.no_stderr)."""
    try:
        return open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, closefd=False)
    except OSError:  # there is no file, as in a test
        return sys.stderr


def logs_json() -> bool:
    """What `--log` says, or THAW_LOG; else whether standard error is no terminal."""
    chosen = click.get_current_context().meta.get(LOG) or os.environ.get("THAW_LOG", "auto")
    if chosen not in LOGS:
        raise JobError(f"THAW_LOG={chosen}: write one of {', '.join(LOGS)}.")
    return chosen == "json" or (chosen == "auto" and not sys.stderr.isatty())


def console(stderr: bool) -> Any:
    from rich.console import Console

    terminal = Console(stderr=stderr)
    if not terminal.is_terminal:  # a log or a pipe: nothing is folded or cut to 80 columns
        terminal.width = 4096
    return terminal


@contextmanager
def screen(stderr: bool) -> Iterator[Callable[[list[str]], None]]:
    """Shows lines in the place of those before them; where it is no terminal, those that are new."""
    from rich.live import Live
    from rich.text import Text

    to, before = console(stderr), set[str]()

    def tell(lines: list[str]) -> None:
        click.echo("".join(f"{line}\n" for line in lines if line not in before), err=stderr, nl=False)
        before.clear()
        before.update(lines)

    if not to.is_terminal:
        yield tell
        return
    with Live(console=to, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda lines: live.update(Text("\n".join(lines)), refresh=True)


def finish(outcome: RunOutcome, as_json: bool, narrator: Narrator, *, demo: DemoExtras | None = None) -> None:
    """Tells the outcome of a run; `demo` has what is shown beside that of a demo."""
    document = {**outcome.as_json(), **(demo.as_json() if demo else {})}
    if logs_json():
        narrator.result(outcome.result, document)
    else:
        _finish(outcome, demo)
    if as_json:
        click.echo(json.dumps(document, indent=1))


def _finish(outcome: RunOutcome, demo: DemoExtras | None) -> None:
    from job.telemetry.console import comparison_table, result_table
    from job.telemetry.lines import unknown_words

    to, result = console(stderr=True), outcome.result
    if result.model or result.state == "head":
        to.print()
        to.print(result_table(result, demo.published if demo else None))
    if demo and demo.comparison:
        to.print()
        to.print(comparison_table(demo.comparison))
    if result.words:
        to.print(f"\nWords {unknown_words(result.words)}", highlight=False, markup=False, soft_wrap=True)
    to.print(f"\nrun    {result.run}", highlight=False, soft_wrap=True)
    for name, uri in (("model", result.model), ("report", outcome.report), ("mlflow", outcome.mlflow)):
        if uri:
            to.print(f"{name:<6} {uri}", highlight=False, soft_wrap=True)
    if result.model:
        for name, uri in (outcome.formats or {}).items():
            to.print(f"       {uri or f'(no {name}: see above)'}", highlight=False, soft_wrap=True)
        command = [*own_command(), "predict", result.model]
        task = result.task or "image"
        example = shlex.quote(demo.example) if demo else f"{task.upper()}…"
        called = {"image": "an image", "text": "a text"}[task]
        to.print(f"\nClassify {called}:\n  {shlex.join(command)} {example}", highlight=False, soft_wrap=True)


def own_command() -> list[str]:
    """What the user has to type: the path, where `thaw` alone would not be found."""
    if shutil.which("thaw"):
        return ["thaw"]
    return ["python", "-m", "job"] if sys.argv[0].endswith("__main__.py") else [sys.argv[0]]


def need(extra: str, *modules: str) -> None:
    """Raises JobError where what only this verb needs is not installed."""
    from importlib.util import find_spec

    try:
        missing = [module for module in modules if find_spec(module) is None]
    except ModuleNotFoundError as error:  # the package that the module is in
        missing = [str(error.name)]
    if missing:
        raise JobError(f"{missing[0]} is not installed: pip install 'thaw[{extra}]'.")
