"""What a demo shows beside the outcome of its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from job.run.outcome import RunOutcome
from job.telemetry.console import Accuracies


@dataclass(frozen=True)
class DemoExtras:
    task: str
    example: str
    """The path of an example to try the model on."""
    published: tuple[str, float] | None = None
    """The name of a published model, and its accuracy."""
    comparison: list[Accuracies] | None = None

    def as_json(self) -> dict[str, Any]:
        rows = {} if self.comparison is None else {"comparison": [row._asdict() for row in self.comparison]}
        return {**rows, self.task: self.example}


class DemoRun(NamedTuple):
    outcome: RunOutcome
    extras: DemoExtras
