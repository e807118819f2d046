"""Which column of a table is meant by a name."""

from __future__ import annotations

import unicodedata


class NoColumn(Exception):
    """A column is missing, or named twice; its text says so to the user."""


def place_of(name: str, headings: list[str]) -> int | None:
    """Where the column of this name is: the one that is spelled so, or else the only one that differs in blanks around
    it, in case, or in its Unicode form. None where there is none, or more than one.
    """
    places = _places(name, headings)
    return places[0] if len(places) == 1 else None


def alike(name: str, headings: list[str]) -> list[str]:
    """The headings that may be meant."""
    return [headings[place] for place in _places(name, headings)]


def _places(name: str, headings: list[str]) -> list[int]:
    exact = [place for place, heading in enumerate(headings) if heading == name]
    return exact or [place for place, heading in enumerate(headings) if _folded(heading) == _folded(name)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().casefold())
