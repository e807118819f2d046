"""Finds the column of a table that a name in the job file means."""

from __future__ import annotations

import unicodedata


class NoColumn(Exception):
    """A column is missing, or named twice. The message is for the user."""


def place_of(name: str, headings: list[str]) -> int | None:
    """The place of the column of this name: the one with exactly this name, or else the only one that differs just in
    blanks around it, in case, or in its Unicode form. None where there is none, or more than one.
    """
    places = _places(name, headings)
    return places[0] if len(places) == 1 else None


def alike(name: str, headings: list[str]) -> list[str]:
    """The headings that the name may mean."""
    return [headings[place] for place in _places(name, headings)]


def _places(name: str, headings: list[str]) -> list[int]:
    exact = [place for place, heading in enumerate(headings) if heading == name]
    return exact or [place for place, heading in enumerate(headings) if _folded(heading) == _folded(name)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().casefold())
