"""What a run tells on standard error: lines, with live bars on a terminal, or a JSON document a line."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table

from job.telemetry.console import classes_table
from job.telemetry.output import Output
from job.telemetry.run_progress import RunProgress, Tracker, describe
from job.wording import counted, duration, percent, plural

INTERVAL = 60.0
"""Seconds between two lines about how far a stage is, where there is no bar, and at most between any two lines."""
CLASSES = 5
"""That are named with their numbers of examples: the largest."""
FIGURES = ("percent", "done", "of", "epochs", "loss", "accuracy", "rate", "left")
"""Fields of a RunProgress, in a line about how far a stage is."""


class Narrator:
    """Turns the events of a run into lines. In its `with` block, stages that tell nothing are shown as well, or told of
    once in INTERVAL seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output, self._clock, self._tracker, self._seldom = output, clock, Tracker(), Seldom(clock)
        self._event = self._doing = ""
        self._told = self._since = self._clock()
        self._lock, self._over = threading.RLock(), threading.Event()
        self._over.set()

    def __enter__(self) -> Narrator:
        self._over.clear()
        self._told = self._since = self._clock()
        if not self._output.lives:
            threading.Thread(target=self._watch, name="narrator", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over.set()
            self._output.end()

    def __call__(self, kind: str, **event: Any) -> None:
        with self._lock:
            self._event, phase = kind, self._tracker.now.phase
            moved = self._tracker.after(kind, event)
            getattr(self, f"_{kind}")(**event)
            if kind == "stage":
                self._begin(event["text"])
            elif kind in ("snapshot", "start") or self._tracker.now.phase != phase:
                self._begin("starting to train" if kind == "start" else "")
            elif moved:
                self._doing = ""

    def beat(self) -> None:
        """Tells of the stage that is under way, where nothing was told for INTERVAL seconds."""
        with self._lock:
            now = self._clock()
            if self._over.is_set() or now - self._told < INTERVAL:
                return
            words, seconds = self._doing or describe(self._tracker.now), now - self._since
            self._far(f"{words}, {duration(seconds)} so far", stage=words, seconds=round(seconds, 1))

    def _watch(self) -> None:
        while not self._over.wait(self._told + INTERVAL - self._clock()):
            self.beat()

    def _begin(self, words: str) -> None:
        self._doing, self._since = words, self._clock()
        if not self._over.is_set() and (words or self._tracker.now.done is None):
            self._output.begin(words or describe(self._tracker.now), self._tracker.now)

    def _progress(self) -> None:
        now = self._tracker.now
        if self._output.lives:
            self._output.progress(now)
        elif self._seldom.is_due(now):
            self._far(describe(now))

    def _far(self, text: str, **told: Any) -> None:
        """A line about how far the stage is."""
        now, self._event = self._tracker.now, "progress"
        self._seldom.is_told()
        self._line(text, **{name: value for name in FIGURES if (value := getattr(now, name)) is not None}, **told)

    def result(self, result: dict[str, Any]) -> None:
        """The end, for who reads no table."""
        accuracies = {name: m["accuracy"] for name, m in (result.get("metrics") or {}).items() if m}
        told = ", ".join(f"{name.replace('_', '-')} {accuracy:.4f}" for name, accuracy in accuracies.items())
        text = f"{result['state']}: {result['run']}" + (f" (test accuracy: {told})" if told else "")
        self._event = "result"
        self._line(text, result=result)

    def _line(self, text: str, level: str = "info", **told: Any) -> None:
        self._told = self._clock()
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

    def _snapshot(
        self,
        id: str,
        examples: int,
        counts: dict[str, dict[str, int]],
        left_out: dict[str, int],
        rejects: dict[str, int],
        **_: Any,
    ) -> None:
        classes = Counter[str]()
        for of_split in counts.values():
            classes.update(of_split)
        told = ", ".join(f"{label!r} {count:,}" for label, count in classes.most_common(CLASSES))
        more = f" and {len(classes) - CLASSES:,} more" if len(classes) > CLASSES else ""
        text = (
            f"snapshot {id}: {plural(examples, 'example')} in {plural(len(classes), 'class', 'classes')}: {told}{more}"
        )
        self._line(text, snapshot=id, examples=examples, counts=counts)
        text = f"left out: {counted(left_out)}; rejected: {counted(rejects)}"
        self._line(text, left_out=left_out, rejects=rejects)
        self._output.table(classes_table(counts))

    def _rejects(self, total: int, listing: dict[str, int], decoding: list[str]) -> None:
        reasons = [f"{count} {reason}" for reason, count in listing.items()] + decoding
        self._line(f"{total} rejected: {'; '.join(reasons)}", "warning", rejects=total)

    def _words(self, **words: Any) -> None:
        self._line(unknown_words(words), words=words)

    def _index(self, **_: Any) -> None:
        self._progress()

    def _extract(self, **_: Any) -> None:
        self._progress()

    def _step(self, **_: Any) -> None:
        self._progress()

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


class Seldom:
    """When to tell how far a phase is: once in INTERVAL seconds; and where it has no epochs, at its begin and end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._phase, self._told = clock, "", 0.0

    def is_due(self, now: RunProgress) -> bool:
        begins, trains = now.phase != self._phase, now.epoch is not None
        due = not trains if begins or now.done == now.of else self._clock() - self._told > INTERVAL
        if begins or due:
            self._phase, self._told = now.phase, self._clock()
        return due

    def is_told(self) -> None:
        """Something else has told it."""
        self._told = self._clock()


def unknown_words(words: dict[str, Any]) -> str:
    """How many words have no pretrained vector, and which of them occur most often."""
    worst = ", ".join(f"{word} ({count})" for word, count in words["worst"])
    told = f"{words['unknown']} of {words['occurrences']} words ({words['rate']:.1%}), {words['unknown_distinct']} of"
    return f"without a vector: {told} {words['distinct']} different ones{f': {worst}' if worst else ''}"


def _brief(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
