"""Where a run's lines go: to a terminal with a bar below them, to a file, or to a log as JSON documents."""

from __future__ import annotations

import atexit
import json
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from job.run.events import RunProgress
from job.telemetry.printable import plain
from job.telemetry.run_progress import describe
from job.wording import clock

INDENT, BAR = 7, 12
"""Columns before a bar, as wide as the time before a line, and of the bar."""
STYLES = {"info": "", "debug": "dim", "warning": "yellow"}


class Output(Protocol):
    lives: bool
    """Whether it shows the stage that is under way all the time, so that there need be no lines about it."""

    def line(self, level: str, text: str, *, event: str, now: RunProgress, fields: dict[str, Any]) -> None:
        """`level` is one of STYLES; `fields`: what the line is about, as JSON types."""

    def table(self, table: Table) -> None: ...

    def progress(self, now: RunProgress) -> None:
        """Where it lives: how far the stage is."""

    def begin(self, words: str, now: RunProgress) -> None:
        """Where it lives: a stage of which it is not known how far it is."""

    def end(self) -> None:
        """Shows no stage any more."""


class TextOutput:
    """Lines with the time since the begin; on a terminal, below them, the stage that is under way: with a bar, or
    with the time that it has taken, where it is not known how far it is.
    """

    def __init__(self, console: Console, passed: Callable[[], float] = time.monotonic) -> None:
        """`passed`: seconds since any begin."""
        self._console, self._passed = console, passed
        self._started = passed()
        self.lives = console.is_terminal and not console.is_dumb_terminal
        self._shown: Progress | None = None
        self._is_bar = False
        self._phase = ""

    def line(self, level: str, text: str, *, event: str, now: RunProgress, fields: dict[str, Any]) -> None:
        if now.phase != self._phase:
            self.end()
        minutes, seconds = divmod(int(self._passed() - self._started), 60)
        stamp = f"{minutes:02d}:{seconds:02d}"
        words = plain(text)
        if self._console.is_terminal:
            words = _folded(words, len(stamp) + 2, self._console.width)
        self._console.print(
            f"[dim]{stamp}[/dim]  {escape(words)}", style=STYLES[level], highlight=False, soft_wrap=True
        )

    def table(self, table: Table) -> None:
        self._console.print(table)

    def progress(self, now: RunProgress) -> None:
        if now.done is None or not now.of or now.done >= now.of:
            return self.end()
        left = "" if now.left is None else f"{clock(now.left)} left  "
        text = f"{100 * now.done / now.of:>3.0f} %  {left}"
        room = self._console.width - INDENT - BAR - 1 - len(text)
        text = f"{text}{escape(_fitting(describe(now, left=False), room))}"
        if self._shown is None or not self._is_bar:
            indent = TextColumn("", table_column=Column(width=INDENT - 1))
            self._shown = self._show(text, now.done, now.of, indent, BarColumn(BAR, table_column=Column(width=BAR)))
        self._is_bar, self._phase = True, now.phase
        self._shown.update(self._shown.task_ids[0], completed=now.done, total=now.of, description=text)

    def begin(self, words: str, now: RunProgress) -> None:
        if self.lives:
            spinner = SpinnerColumn("line", table_column=Column(width=INDENT - 1, justify="right"))
            self._shown = self._show(escape(plain(words)), 0, None, spinner, TimeElapsedColumn())
            self._is_bar, self._phase = False, now.phase

    def _show(self, text: str, done: int, of: int | None, *columns: ProgressColumn) -> Progress:
        self.end()
        words = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        shown = Progress(*columns, words, console=self._console, transient=True, expand=True)
        shown.add_task(text, completed=done, total=of)
        shown.start()
        atexit.register(shown.stop)  # an error must not leave the terminal without its cursor
        return shown

    def end(self) -> None:
        if self._shown is not None:
            self._shown.stop()
            atexit.unregister(self._shown.stop)
            self._shown = None


class JsonOutput:
    """{time, level, message, event, run, attempt, phase, epoch, step, …}: what is not known yet is left out."""

    lives = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._run: dict[str, Any] = {}

    def line(self, level: str, text: str, *, event: str, now: RunProgress, fields: dict[str, Any]) -> None:
        self._run |= {name: fields[name] for name in ("run", "attempt") if name in fields}
        where = {name: getattr(now, name) for name in ("phase", "epoch", "step") if getattr(now, name) is not None}
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        document = {"time": time, "level": level, "message": text, "event": event, **self._run, **where, **fields}
        self._stream.write(json.dumps(document, default=str) + "\n")
        self._stream.flush()

    def table(self, table: Table) -> None:
        pass

    def progress(self, now: RunProgress) -> None:
        pass

    def begin(self, words: str, now: RunProgress) -> None:
        pass

    def end(self) -> None:
        pass


def _folded(text: str, indent: int, width: int) -> str:
    """Lines that end between words, below each other; a word that is too long (a URI, to be copied) stays whole."""
    lines = textwrap.wrap(text, max(width - indent, 1), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _fitting(text: str, width: int) -> str:
    """As many of the parts, which commas divide, as there is room for: at least the first."""
    while len(text) > width and ", " in text:
        text = text.rpartition(", ")[0]
    return text
