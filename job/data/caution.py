"""Cautions: what is probably a mistake in the data or the job file. They are printed before a run costs anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from job.wording import first_of


@dataclass(frozen=True)
class Caution:
    setting: str
    """The setting of the job file, or `data` for the examples themselves."""
    text: str


Note = Callable[[Caution], None]
"""Takes what was assumed in a listing."""


def shown(names: list[str], most: int = 3) -> str:
    """The first `most` names in quotes, and how many more there are."""
    return first_of([repr(name) for name in names], most)
