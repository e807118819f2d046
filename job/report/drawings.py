"""Pictures with words in them, for where neither a page nor a vector can be shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from job.wording import shortened

MOST_CLASSES = 24
"""Classes in a drawn confusion matrix; where there are more, those that are confused most are drawn."""
WITH_SHARES = 12
"""Classes at most where a cell has room for its share as well."""
FEW = 4
"""Classes at most whose names and counts are written larger."""
RIGHT, WRONG = (37, 99, 235), (180, 83, 9)
SIDE = 224
"""Pixels of the longer side of an example."""
MARGIN, LINE, SIZE = 8, 18, 13
"""Pixels: of a caption, of one of its lines, of its letters."""


def confusion_picture(confusion: Sequence[Sequence[int]], classes: list[str], title: str) -> Image.Image:
    """True classes in rows, answers in columns; shades are shares of the row. `confusion` int [classes, classes]."""
    counts = np.array(confusion)
    drawn = most_confused(counts, MOST_CLASSES)
    names = [shortened(classes[at], 24) for at in drawn]
    full, few = len(drawn) <= WITH_SHARES, len(drawn) <= FEW
    font, cell = _font(18 if few else 14), 82 if full else 55
    lines = title.splitlines() + _some(drawn, classes)
    slanted = max(map(font.getlength, names)) > cell - MARGIN
    below = [_slanted(name, font) if slanted else _line(name, font) for name in names]
    left, top = 2 * MARGIN + _height(font) + _wide(names, font), 2 * MARGIN + len(lines) * _height(font)
    side = cell * len(drawn)
    width = left + max(side + MARGIN, _wide(lines, font) - left + 2 * MARGIN)
    height = top + side + max(label.height for label in below) + _height(font) + 2 * MARGIN
    whole = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(whole)
    draw.multiline_text((MARGIN, MARGIN), "\n".join(lines), "black", font)
    _cells(draw, (left, top), cell, counts, drawn, _font(21 if few else 14 if full else 12), full)
    for at, (name, label) in enumerate(zip(names, below, strict=True)):
        middle = int((at + 0.5) * cell)
        draw.text((left - MARGIN // 2, top + middle), name, "black", font, anchor="rm")
        x = left + middle - (label.width - _height(font) // 2 if slanted else label.width // 2)
        whole.paste("black", (max(x, 0), top + side + MARGIN // 2), label)
    draw.text((left + side // 2, height - MARGIN), "answer", "black", font, anchor="mb")
    upright = _line("true class", font).rotate(90, expand=True)
    whole.paste("black", (MARGIN // 2, top + (side - upright.height) // 2), upright)
    return whole


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
    font = _font(SIZE)
    times = max(SIDE // max(picture.size), 1)
    large = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    whole = Image.new("RGB", (SIDE, large.height + 2 * MARGIN + LINE * len(lines)), "white")
    whole.paste(large, ((SIDE - large.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        place = MARGIN, large.height + MARGIN + LINE * number
        draw.text(place, _fitting(line, font), "black" if number < 2 else "dimgray", font)
    return whole


def _some(drawn: list[int], classes: list[str]) -> list[str]:
    few = len(drawn) < len(classes)
    return [f"{len(drawn)} of {len(classes):,} classes: those confused most"] if few else []


def _cells(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    cell: int,
    counts: np.ndarray,
    drawn: list[int],
    font: ImageFont.FreeTypeFont,
    full: bool,
) -> None:
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(drawn, drawn)]
    for row, true in enumerate(drawn):
        tested = counts[true].any()
        for column, answer in enumerate(drawn):
            count, share = counts[true, answer], shares[row, column]
            x, y = corner[0] + column * cell, corner[1] + row * cell
            hue = np.array(RIGHT if row == column else WRONG)
            shade = tuple(int(value) for value in 255 - share * (255 - hue))
            draw.rectangle((x, y, x + cell, y + cell), shade, "lightgray")
            if not count and not full:
                continue
            told = f"{count:,}\n{share:.0%}" if full and tested else f"{count:,}"
            colour = "white" if share > 0.65 else "black" if count else "darkgray"
            draw.multiline_text((x + cell // 2, y + cell // 2), told, colour, font, anchor="mm", align="center")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which Matplotlib brings (importing it takes longer than drawing): what it lacks is an empty box."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def _height(font: ImageFont.FreeTypeFont) -> int:
    return sum(font.getmetrics()) + 2


def _wide(lines: list[str], font: ImageFont.FreeTypeFont) -> int:
    return max((int(font.getlength(line)) for line in lines), default=0) + MARGIN


def _line(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """A mask of the text."""
    mask = Image.new("L", (max(1, int(font.getlength(text))), _height(font)))
    ImageDraw.Draw(mask).text((0, 0), text, 255, font)
    return mask


def _slanted(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The same at 45 degrees: it ends at its upper right corner."""
    return _line(text, font).rotate(45, expand=True, resample=Image.Resampling.BICUBIC)


def _fitting(line: str, font: ImageFont.FreeTypeFont) -> str:
    line = shortened(line, SIDE // 3)
    while font.getlength(line) > SIDE - 2 * MARGIN:
        line = f"{line[:-2]}…"
    return line
