"""Pictures with words in them, for where neither a page nor a vector can be shown."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from job.report.wording import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 24
"""Of a confusion matrix; of more, those that are confused most are drawn."""
WITH_SHARES = 12
"""Classes at most where a cell has room for its share as well."""
FEW = 4
"""Classes at most whose names and counts are written larger."""
RIGHT, WRONG = (37, 99, 235), (180, 83, 9)
SIDE = 224
"""Pixels of the longer side of an example."""
MARGIN, LINE, SIZE = 8, 18, 13
"""Pixels: of a caption, of one of its lines, of its letters."""
FONT = "DejaVu Sans"
"""Matplotlib brings it: what it lacks is an empty box."""


def confusion_picture(confusion: Sequence[Sequence[int]], classes: list[str], title: str) -> Image.Image:
    """True classes in rows, answers in columns; shades are shares of the row. `confusion` int [classes, classes]."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    drawn = most_confused(counts, MOST_CLASSES)
    wide = 0.5 if len(drawn) > WITH_SHARES else 0.75
    side, names = max(wide * len(drawn), 2.2), [shortened(classes[at], 24) for at in drawn]
    room = (0.12 if len(drawn) <= FEW else 0.09) * max(map(len, names))
    buffer = io.BytesIO()
    with mpl.rc_context({"font.family": [FONT]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(max(side + room + 0.7, 4.2), side + room + 1.4), layout="constrained")
        _matrix(figure.subplots(), counts, drawn, names, f"{title}{_some(drawn, classes)}")
        figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")


def most_confused(counts: np.ndarray, most: int) -> list[int]:
    """Places of the classes that have the cells with the most wrong answers, ascending; all where they are few.
    `counts` int [classes, classes].
    """
    if len(counts) <= most:
        return list(range(len(counts)))
    wrong = counts - np.diag(np.diag(counts))
    rows, columns = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable"), wrong.shape)
    pairs = np.stack([rows, columns], axis=1).ravel()
    _, first = np.unique(pairs, return_index=True)
    return sorted(int(pairs[at]) for at in np.sort(first)[:most])


def captioned(picture: Image.Image, lines: list[str]) -> Image.Image:
    """The picture, enlarged where it is tiny, above the lines, each cut to its width."""
    from matplotlib import font_manager

    font = ImageFont.truetype(font_manager.findfont(FONT), SIZE)
    times = max(SIDE // max(picture.size), 1)
    large = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    whole = Image.new("RGB", (SIDE, large.height + 2 * MARGIN + LINE * len(lines)), "white")
    whole.paste(large, ((SIDE - large.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        place = MARGIN, large.height + MARGIN + LINE * number
        draw.text(place, _fitting(line, font), "black" if number < 2 else "dimgray", font)
    return whole


def _some(drawn: list[int], classes: list[str]) -> str:
    return "" if len(drawn) == len(classes) else f"\n{len(drawn)} of {len(classes):,} classes: those confused most"


def _matrix(axes: Axes, counts: np.ndarray, drawn: list[int], names: list[str], title: str) -> None:
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(drawn, drawn)]
    hues = np.where(np.eye(len(drawn), dtype=bool)[:, :, None], RIGHT, WRONG)
    axes.imshow((255 - shares[:, :, None] * (255 - hues)).astype(np.uint8))
    full = len(drawn) <= WITH_SHARES
    small, large = (12, 14) if len(drawn) <= FEW else (9, 9 if full else 8)
    for row, true in enumerate(drawn):
        tested = counts[true].any()
        for column, answer in enumerate(drawn):
            count, share = counts[true, answer], shares[row, column]
            if not count and not full:
                continue
            told = f"{count:,}\n{share:.0%}" if full and tested else f"{count:,}"
            colour = "white" if share > 0.65 else "black" if count else "darkgray"
            axes.text(column, row, told, ha="center", va="center", fontsize=large, color=colour)
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    slant = slant if max(map(len, names)) > 6 else {}
    axes.set_xticks(range(len(drawn)), names, fontsize=small, parse_math=False, **slant)
    axes.set_yticks(range(len(drawn)), names, fontsize=small, parse_math=False)
    axes.set_xlabel("answer", fontsize=small)
    axes.set_ylabel("true class", fontsize=small)
    axes.set_title(title, fontsize=small, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(drawn) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(drawn) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="lightgray", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _fitting(line: str, font: ImageFont.FreeTypeFont) -> str:
    line = shortened(line, SIDE // 3)
    while font.getlength(line) > SIDE - 2 * MARGIN:
        line = f"{line[:-2]}…"
    return line
