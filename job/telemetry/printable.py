"""Names that others have chosen, as a terminal can show them."""

from __future__ import annotations

import unicodedata

from rich.text import Text


def plain(text: str, width: int | None = None) -> str:
    """One line that can be printed: control characters and line breaks as escapes, cut to so many columns."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text)
    cut = Text(shown)
    if width is not None:
        cut.truncate(width, overflow="ellipsis")
    return cut.plain
