"""What a person reads on standard error while a job runs, and the tables at its end."""

from __future__ import annotations

import atexit
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table

from job.data.splits import SPLITS


class Narrator:
    """Turns the events of a run into lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._told = 0.0
        self._bar: Progress | None = None

    def __call__(self, kind: str, **event: Any) -> None:
        getattr(self, f"_{kind}")(**event)

    def _line(self, text: str, style: str = "") -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self.console.print(
            f"[dim]{minutes:02d}:{seconds:02d}[/dim]  {escape(text)}", style=style, highlight=False, soft_wrap=True
        )

    def _stage(self, text: str, **_: Any) -> None:
        self._line(text)

    def _note(self, text: str, **_: Any) -> None:
        self._line(text, "dim")

    def _run(self, uri: str, phases: list[str]) -> None:
        self._line(f"run {uri}")

    def _snapshot(self, id: str, examples: int, counts: dict[str, dict[str, int]], **_: Any) -> None:
        self._line(f"snapshot {id}: {examples} examples")
        table = Table("class", *SPLITS, box=None, pad_edge=True)
        for label in counts["train"]:
            table.add_row(label, *(str(counts[split][label]) for split in SPLITS))
        self.console.print(table)

    def _rejects(self, total: int, listing: dict[str, int], decoding: list[str]) -> None:
        reasons = [f"{count} {reason}" for reason, count in listing.items()] + decoding
        self._line(f"{total} rejected: {'; '.join(reasons)}", "yellow")

    def _words(self, **words: Any) -> None:
        self._line(unknown_words(words))

    def _index(self, done: int, of: int) -> None:
        self._progress("shards indexed", "", done, of)

    def _warning(self, text: str) -> None:
        self._line(text, "yellow")

    def _extract(self, done: int, of: int, rate: float | None) -> None:
        left = f", {timedelta(seconds=round((of - done) / rate))} left" if rate and done < of else ""
        speed = f", {rate:.0f} a second{left}" if rate else ""
        self._progress("features", f" examples{speed}", done, of)

    def _progress(self, what: str, more: str, done: int, of: int) -> None:
        """A bar on a terminal; elsewhere a line every few seconds."""
        if self.console.is_terminal and done < of:
            if self._bar is None:
                columns = (TextColumn("       {task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
                self._bar = Progress(*columns, console=self.console, transient=True)
                self._bar.add_task(what, text="")
                self._bar.start()
                atexit.register(self._bar.stop)  # an error must not leave the terminal without its cursor
            self._bar.update(self._bar.task_ids[0], completed=done, total=of, text=f"{done} of {of}{more}")
            return
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if done >= of or time.monotonic() - self._told > 5:
            self._told = time.monotonic()
            self._line(f"{what}: {done} of {of}{more}")

    def _start(self, workers: int, resumed: list[Any] | None) -> None:
        begin = "from the start"
        if resumed:
            phase, epoch, step = resumed
            begin = f"resumed from {phase.replace('_', '-')} epoch {epoch}" + (f", step {step}" if step else "")
        self._line(f"training on {workers} worker{'s' if workers > 1 else ''}, {begin}")

    def _ready(self, at: float, seconds: dict[str, float]) -> None:
        parts = ", ".join(f"{part} {spent:.1f}" for part, spent in seconds.items())
        self._note(f"the first step is made, after {sum(seconds.values()):.1f} s ({parts})")

    def _epoch(self, phase: str, epoch: int, **event: Any) -> None:
        loss = f"loss {event['loss']:.4f}  " if "loss" in event else "before   "
        validation = f"validation loss {event['validation_loss']:.4f}  accuracy {event['validation_accuracy']:.4f}"
        seconds = f"  {event['seconds']:.1f} s" if "seconds" in event else ""
        self._line(f"{phase.replace('_', '-')} epoch {epoch:>3}  {loss}{validation}{seconds}")

    def _head(self, converged: bool, epoch: int, best: int) -> None:
        verdict = "has converged" if converged else "has not converged"
        self._line(f"the head {verdict} after {epoch} epochs; the best was epoch {best}")

    def _thaw(self, rows: list[list[Any]]) -> None:
        self._line("thawed")
        table = Table("block", "layers", "parameters", "trainable", box=None, pad_edge=True)
        for column in table.columns[1:]:
            column.justify = "right"
        for block, layers, parameters, trainable in rows:
            table.add_row(block, str(layers), f"{parameters:,}", f"{trainable:,}", style="" if trainable else "dim")
        self.console.print(table)

    def _block(self, block: str, before: float, after: float, share: float, pays: bool, **_: Any) -> None:
        verdict = "it stays thawed" if pays else "it is frozen again, and no other is tried"
        told = f"validation loss {before:.4f}, then {after:.4f}, lower in {share:.1%} of the resamples"
        self._line(f"{block}: {told}: {verdict}")

    def _trained(self, kept: str, fine_tuned: bool) -> None:
        if not fine_tuned:
            return
        text = "the fine-tuned model is" if kept == "fine_tune" else "fine-tuning did not help: the head-only model is"
        self._line(f"{text} the better one on the validation split")

    def _promotion(self, promoted: bool, reason: str) -> None:
        self._line(f"{'promoted: it is the model in use now' if promoted else 'not promoted'}: {reason}")


def result_table(result: dict[str, Any], published: tuple[str, float] | None = None) -> Table:
    """Head only against fine-tuned on the test split; `published` is a name and an accuracy to put beside them."""
    models = {name: metrics for name, metrics in result["metrics"].items() if metrics}
    table = Table(title="Test split", title_justify="left", box=None)
    table.add_column("")
    for name in models:
        table.add_column({"head": "head only", "fine_tune": "fine-tuned"}[name], justify="right")
    if published:
        table.add_column(published[0], justify="right")
    for key in ("accuracy", "balanced_accuracy", "roc_auc"):
        cells = ["–" if m[key] is None else f"{m[key]:.4f}" for m in models.values()]
        beside = [f"{published[1]:.4f}" if key == "accuracy" else ""] if published else []
        table.add_row(key.replace("_", " ").replace("roc auc", "ROC AUC"), *cells, *beside)
    for row, label in enumerate(result["classes"]):
        cells = [" ".join(f"{count:>5}" for count in m["confusion"][row]) for m in models.values()]
        table.add_row(f"confusion: true {label}", *cells, *([""] if published else []))
    table.caption = f"Confusion: columns are predicted {', '.join(result['classes'])}."
    table.caption_justify = "left"
    return table


def sweep_table(depths: list[dict[str, Any]]) -> Table:
    """What each depth of thawing came to on the test split: means over seeds, ± their standard deviation."""
    columns = {"accuracy": 4, "balanced_accuracy": 4, "roc_auc": 4, "validation_loss": 4, "seconds": 0}
    names = [name.replace("_", " ").replace("roc auc", "ROC AUC") for name in columns]
    table = Table("blocks thawed", "runs", "parameters trained", *names, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for depth in depths:
        cells = [spread(depth[name], depth[f"{name}_deviation"], digits) for name, digits in columns.items()]
        table.add_row(str(depth["blocks"] or "head only"), str(depth["runs"]), f"{depth['parameters']:,}", *cells)
    table.caption = "Seconds are those of the training epochs."
    table.caption_justify = "left"
    return table


def spread(mean: float | None, deviation: float | None, digits: int) -> str:
    """A mean ± its standard deviation; None where there is none."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def comparison_table(rows: list[dict[str, Any]]) -> Table:
    """Accuracies of a job on several training sets beside others' on the same splits."""
    columns = {"majority": "majority class", "head": "head only", "fine_tune": "fine-tuned", "tfidf": "TF-IDF + LR"}
    table = Table("training texts", title="Accuracy on the test split", title_justify="left", box=None)
    for name in columns.values():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(str(row["training"]), *(f"{row[name]:.4f}" for name in columns))
    return table


def unknown_words(words: dict[str, Any]) -> str:
    """How many words have no pretrained vector, and which of them occur most often."""
    worst = ", ".join(f"{word} ({count})" for word, count in words["worst"])
    told = f"{words['unknown']} of {words['occurrences']} words ({words['rate']:.1%}), {words['unknown_distinct']} of"
    return f"without a vector: {told} {words['distinct']} different ones{f': {worst}' if worst else ''}"


def prediction_table(records: list[dict[str, Any]]) -> Table:
    table = Table(Column("file", overflow="fold"), "class", "probabilities", box=None)
    for record in records:
        if "error" in record:
            table.add_row(record["file"], "–", record["error"], style="yellow")
        else:
            best = sorted(record["probabilities"].items(), key=lambda item: -item[1])[:5]
            table.add_row(record["file"], record["class"], "  ".join(f"{name} {p:.4f}" for name, p in best))
    return table
