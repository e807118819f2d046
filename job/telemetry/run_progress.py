"""How far a run has come, from the events that it tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from job.storage import Store, read_json
from job.storage.runs import RunKeys
from job.telemetry.background_writer import BackgroundWriter
from job.wording import clock

Say = Callable[..., None]
Shares = dict[str, tuple[float, float]]
FIRST: Shares = {"prepare": (0, 2), "index": (0, 2), "extract": (2, 40), "export": (96, 100)}
"""Where each phase begins and ends, in percent of the run."""
BOTH: Shares = {"head": (40, 60), "fine_tune": (60, 96)}
HEAD_ONLY: Shares = {"head": (40, 96)}
WORDS = {"prepare": "preparing", "index": "shards indexed", "extract": "features", "export": "export"}


@dataclass(frozen=True)
class RunProgress:
    phase: str = "prepare"
    """`prepare`, `index`, `extract`, `head`, `fine_tune` or `export`."""
    percent: float = 0.0
    """How much of the whole run is done."""
    done: int | None = None
    """How many of the shards, the examples or the steps of this phase are done."""
    of: int | None = None
    """At most: a phase may converge before its last epoch."""
    epoch: int | None = None
    """The one that is under way, or the one that has just ended."""
    epochs: int | None = None
    step: int | None = None
    """Within the epoch; None at its end."""
    loss: float | None = None
    accuracy: float | None = None
    """On the validation split, after the epoch before."""
    rate: float | None = None
    """Examples a second."""
    left: float | None = None
    """Seconds of this phase, at most."""


class Tracker:
    """Each phase has a fixed share of the run (FIRST, BOTH), which is filled in proportion to its examples or steps.

    A phase that converges before its last epoch jumps to its end, and stages whose work is stored already are passed in
    no time. The percentage never falls: features that are computed again, or an epoch that is trained again, leave it
    where it was; another run begins anew.
    """

    def __init__(self, fine_tunes: bool = True) -> None:
        self.now, self._run_uri = RunProgress(), ""
        self._shares: Shares = {**FIRST, **(BOTH if fine_tunes else HEAD_ONLY)}

    def after(self, kind: str, event: dict[str, Any]) -> bool:
        """Whether it changes with this event."""
        handler = getattr(self, f"_{kind}", None)
        if handler:
            handler(**event)
        return handler is not None

    def _run(self, uri: str, phases: list[str]) -> None:
        if uri != self._run_uri:
            self.now, self._run_uri = RunProgress(), uri
        self._shares = {**FIRST, **(BOTH if "fine_tune" in phases else HEAD_ONLY)}
        self._at("prepare", 1)

    def _snapshot(self, **_: Any) -> None:
        self._at("prepare", 0)

    def _index(self, done: int, of: int) -> None:
        self._at("index", done / of, done=done, of=of)

    def _extract(self, done: int, of: int, rate: float | None) -> None:
        self._at("extract", done / of, done=done, of=of, rate=rate, left=(of - done) / rate if rate else None)

    def _start(self, resumed: list[Any] | None, **_: Any) -> None:
        self._at(resumed[0] if resumed else "head", 0)

    def _step(
        self, phase: str, epoch: int, epochs: int, step: int, steps: int, loss: float, examples: int, seconds: float
    ) -> None:
        done, of = (epoch - 1) * steps + step, epochs * steps
        accuracy = self.now.accuracy if self.now.phase == phase else None
        rate, left = (examples / seconds, (of - done) * seconds / step) if seconds else (None, None)
        told = {"epoch": epoch, "epochs": epochs, "step": step, "loss": loss, "accuracy": accuracy}
        self._at(phase, done / of, done=done, of=of, rate=rate, left=left, **told)

    def _epoch(self, phase: str, epoch: int, epochs: int | None = None, **event: Any) -> None:
        """`epochs` is missing where none was trained: before fine-tuning, the head's model is measured."""
        told = {"loss": event.get("loss", event["validation_loss"]), "accuracy": event["validation_accuracy"]}
        if epochs and event["seconds"]:
            told |= {"rate": event["examples"] / event["seconds"], "left": (epochs - epoch) * event["seconds"]}
        self._at(phase, epoch / epochs if epochs else 0, epoch=epoch, epochs=epochs, **told)

    def _head(self, **_: Any) -> None:
        self._at("head", 1)

    def _thaw(self, **_: Any) -> None:
        self._at("fine_tune", 0)

    def _trained(self, **_: Any) -> None:
        self._at("export", 0)

    def _at(self, phase: str, part: float, **told: Any) -> None:
        begin, end = self._shares.get(phase, (0, 0))
        percent = max(self.now.percent, begin + (end - begin) * min(part, 1))
        self.now = replace(RunProgress(), phase=phase, percent=percent, **told)


@contextmanager
def kept(say: Say, store: Store, run: str, attempt: int, fine_tunes: bool) -> Iterator[Say]:
    """`say`, which also writes down how far the attempt is, every few seconds, for those who are elsewhere."""
    tracker = Tracker(fine_tunes)
    writer = BackgroundWriter(store, "How far the run is", lambda text: say("warning", text=text))

    def both(kind: str, **event: Any) -> None:
        say(kind, **event)
        if tracker.after(kind, event):
            writer.put(RunKeys(run).progress, json.dumps({"attempt": attempt, **asdict(tracker.now)}).encode())

    try:
        yield both
    finally:
        writer.close()


def read_progress(store: Store, run: str, attempt: int) -> RunProgress | None:
    """How far this attempt is, as far as it has written it down."""
    found = read_json(store, RunKeys(run).progress)
    if found is None or found.pop("attempt") != attempt:
        return None
    return RunProgress(**found)


def describe(now: RunProgress, left: bool = True) -> str:
    """In one line, without the percentage; `left`: with the time that is left."""
    what = now.phase.replace("_", "-")
    if now.epoch is not None:
        told = [f"{what} epoch {now.epoch}" + (f" of {now.epochs}" if now.epochs else "")]
    elif now.of:
        told = [f"{WORDS.get(now.phase, what)}: {now.done} of {now.of}{' examples' * (now.phase == 'extract')}"]
    else:
        told = [WORDS.get(now.phase, what)]
    if now.loss is not None:
        told.append(f"loss {now.loss:.4f}")
    if now.accuracy is not None:
        told.append(f"accuracy {now.accuracy:.4f}")
    if now.rate:
        told.append(f"{now.rate:.0f} a second")
    if left and now.left:
        told.append(f"{clock(now.left)} left")
    return ", ".join(told)
