"""What an event is in words: one line for the terminal, and the fields of the same line in the JSON log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import singledispatch
from typing import Any

from job.run.events import (
    Announced,
    AttemptStarted,
    BlockTried,
    EpochEnded,
    Event,
    ExamplesRejected,
    FeaturesCounted,
    FirstStepMade,
    HandedOver,
    HeadTrained,
    LayersThawed,
    Noted,
    ObjectsListed,
    PromotionDecided,
    RunFound,
    SnapshotTaken,
    StageStarted,
    TrainingEnded,
    TrainingStarted,
    Warned,
    WordsCounted,
)
from job.run.outcome import RunResult, WordStatistics
from job.wording import counted, percent, plural

CLASSES = 5
"""The most classes that are named with their numbers of examples: the largest ones."""


@dataclass(frozen=True)
class Line:
    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    """What the line is about, as JSON types."""
    level: str = "info"
    """`info`, `debug` or `warning`."""


@singledispatch
def lines_of(event: Event) -> Iterator[Line]:
    """The lines that tell an event; none for an event that is shown otherwise, or that is nobody's but a program's."""
    yield from ()


@lines_of.register
def _(event: Announced) -> Iterator[Line]:
    yield Line(event.text)


@lines_of.register
def _(event: Noted) -> Iterator[Line]:
    yield Line(event.text, level="debug")


@lines_of.register
def _(event: Warned) -> Iterator[Line]:
    yield Line(event.text, level="warning")


@lines_of.register
def _(event: StageStarted) -> Iterator[Line]:
    if event.text:
        yield Line(event.text)


@lines_of.register
def _(event: RunFound) -> Iterator[Line]:
    yield Line(f"run {event.uri}", {"run": event.id, "uri": event.uri, "phases": list(event.phases)})


@lines_of.register
def _(event: AttemptStarted) -> Iterator[Line]:
    yield Line(f"attempt {event.number}", {"attempt": event.number}, "debug")


@lines_of.register
def _(event: ObjectsListed) -> Iterator[Line]:
    yield Line(f"listed {event.count:,} objects so far", asdict(event))


@lines_of.register
def _(event: SnapshotTaken) -> Iterator[Line]:
    snapshot, classes = event.snapshot, Counter[str]()
    for of_split in snapshot.counts.values():
        classes.update(of_split)
    largest = ", ".join(f"{label!r} {count:,}" for label, count in classes.most_common(CLASSES))
    more = f" and {len(classes) - CLASSES:,} more" if len(classes) > CLASSES else ""
    numbers = f"{plural(snapshot.examples, 'example')} in {plural(len(classes), 'class', 'classes')}"
    fields = {"snapshot": snapshot.id, "examples": snapshot.examples, "counts": snapshot.counts}
    yield Line(f"snapshot {snapshot.id}: {numbers}: {largest}{more}", fields)
    text = f"left out: {counted(snapshot.left_out)}; rejected: {counted(snapshot.rejects)}"
    yield Line(text, {"left_out": snapshot.left_out, "rejects": snapshot.rejects})


@lines_of.register
def _(event: FeaturesCounted) -> Iterator[Line]:
    if event.computed:
        text, level = f"computing the {event.what} of {event.computed} examples; {event.stored} have theirs", "info"
    else:
        text, level = f"the {event.what} of all {event.stored} examples are stored already", "debug"
    yield Line(text, asdict(event), level)


@lines_of.register
def _(event: ExamplesRejected) -> Iterator[Line]:
    reasons = [f"{count} {reason}" for reason, count in event.listing.items()] + event.decoding
    yield Line(f"{event.total} rejected: {'; '.join(reasons)}", {"rejects": event.total}, "warning")


@lines_of.register
def _(event: WordsCounted) -> Iterator[Line]:
    yield Line(unknown_words(event.words), {"words": asdict(event.words)})


@lines_of.register
def _(event: TrainingStarted) -> Iterator[Line]:
    begin = "from the start"
    if event.resumed:
        phase, epoch, step = event.resumed
        begin = f"resumed from {_words(phase)} epoch {epoch}" + (f", step {step}" if step else "")
    yield Line(f"training on {plural(event.workers, 'worker')}, {begin}", {"workers": event.workers})


@lines_of.register
def _(event: FirstStepMade) -> Iterator[Line]:
    parts = ", ".join(f"{part} {spent:.1f}" for part, spent in event.seconds.items())
    text = f"the first step is made, after {sum(event.seconds.values()):.1f} s ({parts})"
    yield Line(text, {"seconds": event.seconds}, "debug")


@lines_of.register
def _(event: EpochEnded) -> Iterator[Line]:
    record = event.record
    loss = "before" if record.loss is None else f"loss {record.loss:.4f}"
    validation = f"validation {record.validation_loss:.4f}, {percent(record.validation_accuracy)} right"
    seconds = "" if record.seconds is None else f"  {_brief(record.seconds)}"
    values = {**asdict(record), "epochs": event.epochs, "steps": event.steps}
    fields = {name: value for name, value in values.items() if value is not None and name != "epoch"}
    yield Line(f"{_words(event.phase)} epoch {record.epoch:>3}  {loss:<11}  {validation}{seconds}", fields)


@lines_of.register
def _(event: HeadTrained) -> Iterator[Line]:
    if event.before:
        return
    verdict = "has converged" if event.converged else "has not converged"
    text = f"the head {verdict} after {event.epoch} epochs; the best was epoch {event.best}"
    yield Line(text, {"converged": event.converged, "best": event.best})


@lines_of.register
def _(event: HandedOver) -> Iterator[Line]:
    yield Line("workers with GPUs go on from here", {})


@lines_of.register
def _(event: LayersThawed) -> Iterator[Line]:
    yield Line("thawed", {"blocks": [block for block in event.blocks if block.trainable]})


@lines_of.register
def _(event: BlockTried) -> Iterator[Line]:
    verdict = event.verdict
    kept = "it stays thawed" if verdict.pays else "it is frozen again, and no other is tried"
    losses = f"validation loss {verdict.before:.4f}, then {verdict.after:.4f}"
    text = f"{verdict.block}: {losses}, lower in {verdict.share:.1%} of the resamples: {kept}"
    yield Line(text, asdict(verdict))


@lines_of.register
def _(event: TrainingEnded) -> Iterator[Line]:
    if event.fine_tuned:
        helped = "the fine-tuned model is"
        which = helped if event.kept == "fine_tune" else "fine-tuning did not help: the head-only model is"
        yield Line(f"{which} the better one on the validation split", {"kept": event.kept})


@lines_of.register
def _(event: PromotionDecided) -> Iterator[Line]:
    verdict = "promoted: it is the model in use now" if event.promoted else "not promoted"
    yield Line(f"{verdict}: {event.reason}", {"promoted": event.promoted})


def result_line(result: RunResult, document: dict[str, Any]) -> Line:
    """The end of a run, for who reads no table."""
    words = ", ".join(f"{_words(name)} {metrics.accuracy:.4f}" for name, metrics in result.tested.items())
    text = f"{result.state}: {result.run}" + (f" (test accuracy: {words})" if words else "")
    return Line(text, {"result": document})


def unknown_words(words: WordStatistics) -> str:
    """How many words have no pretrained vector, and which of them occur most often."""
    worst = ", ".join(f"{word} ({count})" for word, count in words.worst)
    rate = f"{words.unknown} of {words.occurrences} words ({words.rate:.1%}), {words.unknown_distinct} of"
    return f"without a vector: {rate} {words.distinct} different ones{f': {worst}' if worst else ''}"


def _words(phase: str) -> str:
    return phase.replace("_", "-")


def _brief(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
