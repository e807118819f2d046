"""What is likely to be a mistake, though it is none for sure: told before it costs anything."""

from __future__ import annotations

from dataclasses import dataclass

from job.wording import first_of


@dataclass(frozen=True)
class Caution:
    setting: str
    """The setting of the job file, or `data` for the examples themselves."""
    text: str


def shown(names: list[str], most: int = 3) -> str:
    """The first of them in quotes, and how many more there are."""
    return first_of([repr(name) for name in names], most)
