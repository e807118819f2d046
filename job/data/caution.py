"""What is likely to be a mistake, though it is none for sure: told before it costs anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caution:
    setting: str
    """The setting of the job file, or `data` for the examples themselves."""
    text: str


def shown(names: list[str], most: int = 3) -> str:
    """The first of them in quotes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
