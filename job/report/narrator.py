"""What a run tells on standard error: lines, with live bars on a terminal, or a JSON document a line."""

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
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table

from job.report.console import classes_table
from job.report.printable import plain
from job.report.standing import Standing, Tracker, describe
from job.report.wording import clock, percent

INTERVAL = 60.0
"""Seconds between two lines about how far a stage is, where there is no bar."""
INDENT, BAR = 7, 12
"""Columns before a bar, as wide as the time before a line, and of the bar."""
STYLES = {"info": "", "debug": "dim", "warning": "yellow"}


class Output(Protocol):
    def line(self, level: str, text: str, event: str, now: Standing, told: dict[str, Any]) -> None:
        """`level` is one of STYLES; `told` is what the line is about, as JSON types."""

    def table(self, table: Table) -> None: ...

    def progress(self, now: Standing) -> None: ...


class Narrator:
    """Turns the events of a run into lines."""

    def __init__(self, output: Output) -> None:
        self._output, self._tracker = output, Tracker()
        self._event = ""

    def __call__(self, kind: str, **event: Any) -> None:
        self._event = kind
        self._tracker.after(kind, event)
        getattr(self, f"_{kind}")(**event)

    def result(self, result: dict[str, Any]) -> None:
        """The end, for who reads no table."""
        accuracies = {name: m["accuracy"] for name, m in (result.get("metrics") or {}).items() if m}
        told = ", ".join(f"{name.replace('_', '-')} {accuracy:.4f}" for name, accuracy in accuracies.items())
        text = f"{result['state']}: {result['run']}" + (f" (test accuracy: {told})" if told else "")
        self._event = "result"
        self._line(text, result=result)

    def _line(self, text: str, level: str = "info", **told: Any) -> None:
        self._output.line(level, text, self._event, self._tracker.now, told)

    def _stage(self, text: str, **told: Any) -> None:
        self._line(text, **told)

    def _note(self, text: str, **told: Any) -> None:
        self._line(text, "debug", **told)

    def _warning(self, text: str) -> None:
        self._line(text, "warning")

    def _run(self, uri: str, phases: list[str]) -> None:
        self._line(f"run {uri}", run=uri.rstrip("/").rpartition("/")[2], uri=uri, phases=phases)

    def _attempt(self, number: int) -> None:
        self._line(f"attempt {number}", "debug", attempt=number)

    def _snapshot(self, id: str, examples: int, counts: dict[str, dict[str, int]], **_: Any) -> None:
        self._line(f"snapshot {id}: {examples} examples", snapshot=id, examples=examples, counts=counts)
        self._output.table(classes_table(counts))

    def _rejects(self, total: int, listing: dict[str, int], decoding: list[str]) -> None:
        reasons = [f"{count} {reason}" for reason, count in listing.items()] + decoding
        self._line(f"{total} rejected: {'; '.join(reasons)}", "warning", rejects=total)

    def _words(self, **words: Any) -> None:
        self._line(unknown_words(words), words=words)

    def _index(self, **_: Any) -> None:
        self._output.progress(self._tracker.now)

    def _extract(self, **_: Any) -> None:
        self._output.progress(self._tracker.now)

    def _step(self, **_: Any) -> None:
        self._output.progress(self._tracker.now)

    def _start(self, workers: int, resumed: list[Any] | None) -> None:
        begin = "from the start"
        if resumed:
            phase, epoch, step = resumed
            begin = f"resumed from {phase.replace('_', '-')} epoch {epoch}" + (f", step {step}" if step else "")
        self._line(f"training on {workers} worker{'s' if workers > 1 else ''}, {begin}", workers=workers)

    def _ready(self, at: float, seconds: dict[str, float]) -> None:
        parts = ", ".join(f"{part} {spent:.1f}" for part, spent in seconds.items())
        self._line(f"the first step is made, after {sum(seconds.values()):.1f} s ({parts})", "debug", seconds=seconds)

    def _epoch(self, phase: str, epoch: int, losses: Any = None, **event: Any) -> None:
        loss = f"loss {event['loss']:.4f}" if "loss" in event else "before"
        validation = f"validation {event['validation_loss']:.4f}, {percent(event['validation_accuracy'])} right"
        seconds = f"  {_brief(event['seconds'])}" if "seconds" in event else ""
        self._line(f"{phase.replace('_', '-')} epoch {epoch:>3}  {loss:<11}  {validation}{seconds}", **event)

    def _weights(self, **_: Any) -> None:
        """It is TensorBoard's."""

    def _head(self, converged: bool, epoch: int, best: int) -> None:
        verdict = "has converged" if converged else "has not converged"
        text = f"the head {verdict} after {epoch} epochs; the best was epoch {best}"
        self._line(text, converged=converged, best=best)

    def _thaw(self, rows: list[list[Any]]) -> None:
        self._line("thawed", blocks=[row for row in rows if row[3]])
        table = Table("block", "layers", "parameters", "trainable", box=None, pad_edge=True)
        for column in table.columns[1:]:
            column.justify = "right"
        for block, layers, parameters, trainable in rows:
            style = "" if trainable else "dim"
            table.add_row(escape(block), str(layers), f"{parameters:,}", f"{trainable:,}", style=style)
        self._output.table(table)

    def _block(self, block: str, before: float, after: float, share: float, pays: bool, **more: Any) -> None:
        verdict = "it stays thawed" if pays else "it is frozen again, and no other is tried"
        told = f"validation loss {before:.4f}, then {after:.4f}, lower in {share:.1%} of the resamples"
        fields = {"block": block, "before": before, "after": after, "share": share, "pays": pays, **more}
        self._line(f"{block}: {told}: {verdict}", **fields)

    def _trained(self, kept: str, fine_tuned: bool) -> None:
        if not fine_tuned:
            return
        text = "the fine-tuned model is" if kept == "fine_tune" else "fine-tuning did not help: the head-only model is"
        self._line(f"{text} the better one on the validation split", kept=kept)

    def _promotion(self, promoted: bool, reason: str) -> None:
        text = f"{'promoted: it is the model in use now' if promoted else 'not promoted'}: {reason}"
        self._line(text, promoted=promoted)


class TextOutput:
    """Lines with the time since the begin, and on a terminal a bar below them for the stage that is under way."""

    def __init__(self, console: Console, passed: Callable[[], float] = time.monotonic) -> None:
        """`passed`: seconds since any begin."""
        self._console, self._passed = console, passed
        self._started = passed()
        self._seldom = Seldom()
        self._bar: Progress | None = None
        self._phase = ""

    def line(self, level: str, text: str, event: str, now: Standing, told: dict[str, Any]) -> None:
        if now.phase != self._phase:
            self._end()
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

    def progress(self, now: Standing) -> None:
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            if self._seldom.is_due(now):
                self.line("info", describe(now), "progress", now, {})
            return
        if now.done is None or not now.of or now.done >= now.of:
            return self._end()
        left = "" if now.left is None else f"{clock(now.left)} left  "
        told = f"{100 * now.done / now.of:>3.0f} %  {left}"
        room = self._console.width - INDENT - BAR - 1 - len(told)
        text = f"{told}{escape(_fitting(describe(now, left=False), room))}"
        if self._bar is None:
            indent = TextColumn("", table_column=Column(width=INDENT - 1))
            bar = BarColumn(BAR, table_column=Column(width=BAR))
            words = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
            self._bar = Progress(indent, bar, words, console=self._console, transient=True, expand=True)
            self._bar.add_task(text, completed=now.done, total=now.of)
            self._bar.start()
            atexit.register(self._bar.stop)  # an error must not leave the terminal without its cursor
        self._phase = now.phase
        self._bar.update(self._bar.task_ids[0], completed=now.done, total=now.of, description=text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            atexit.unregister(self._bar.stop)
            self._bar = None


class JsonOutput:
    """{time, level, message, event, run, attempt, phase, epoch, step, …}: what is not known yet is left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._seldom = Seldom()
        self._run: dict[str, Any] = {}

    def line(self, level: str, text: str, event: str, now: Standing, told: dict[str, Any]) -> None:
        self._run |= {name: told[name] for name in ("run", "attempt") if name in told}
        where = {name: getattr(now, name) for name in ("phase", "epoch", "step") if getattr(now, name) is not None}
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        document = {"time": time, "level": level, "message": text, "event": event, **self._run, **where, **told}
        self._stream.write(json.dumps(document, default=str) + "\n")
        self._stream.flush()

    def table(self, table: Table) -> None:
        pass

    def progress(self, now: Standing) -> None:
        if self._seldom.is_due(now):
            names = ("percent", "done", "of", "epochs", "loss", "accuracy", "rate", "left")
            told = {name: getattr(now, name) for name in names if getattr(now, name) is not None}
            self.line("info", describe(now), "progress", now, told)


class Seldom:
    """When to tell how far a phase is: once in INTERVAL seconds; and where it has no epochs, at its begin and end."""

    def __init__(self) -> None:
        self._phase, self._told = "", 0.0

    def is_due(self, now: Standing) -> bool:
        begins, trains = now.phase != self._phase, now.epoch is not None
        due = not trains if begins or now.done == now.of else time.monotonic() - self._told > INTERVAL
        if begins or due:
            self._phase, self._told = now.phase, time.monotonic()
        return due


def unknown_words(words: dict[str, Any]) -> str:
    """How many words have no pretrained vector, and which of them occur most often."""
    worst = ", ".join(f"{word} ({count})" for word, count in words["worst"])
    told = f"{words['unknown']} of {words['occurrences']} words ({words['rate']:.1%}), {words['unknown_distinct']} of"
    return f"without a vector: {told} {words['distinct']} different ones{f': {worst}' if worst else ''}"


def _brief(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _folded(text: str, indent: int, width: int) -> str:
    """Lines that end between words, below each other; a word that is too long (a URI, to be copied) stays whole."""
    lines = textwrap.wrap(text, max(width - indent, 1), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _fitting(told: str, width: int) -> str:
    """As many of the parts, which commas divide, as there is room for: at least the first."""
    while len(told) > width and ", " in told:
        told = told.rpartition(", ")[0]
    return told
