"""Pictures as pixels, for TensorBoard, which shows no SVG.

Their words are in DejaVu Sans (fonts/), since a machine may have no font at all; what it lacks is an empty box.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from job.wording import both_ends, shortened

FONT = Path(__file__).parent / "fonts/DejaVuSans.ttf"
MOST_CLASSES = 24
"""Classes in a drawn confusion matrix; where there are more, those that are confused most are drawn."""
RIGHT, WRONG = (37, 99, 235), (180, 83, 9)
DARK = 0.9
"""The share from which on a cell is so dark that white letters are easier to read than black ones."""
SIDE = 224
"""Pixels of the longer side of an example."""
MARGIN, LINE, SIZE = 8, 18, 13
"""Pixels: of a caption, of one of its lines, of its letters."""


class _Scale(NamedTuple):
    """Pixels of a cell, and of the letters of names and of counts; whether a cell has room for zeros and shares."""

    cell: int
    names: int
    counts: int
    roomy: bool


def _scale(classes: int) -> _Scale:
    if classes <= 4:
        return _Scale(82, 18, 21, roomy=True)
    return _Scale(82, 14, 14, roomy=True) if classes <= 12 else _Scale(55, 14, 12, roomy=False)


def confusion_picture(confusion: Sequence[Sequence[int]], classes: list[str], title: str) -> Image.Image:
    """True classes in rows, answers in columns; shades are shares of the row. `confusion` int [classes, classes]."""
    counts = np.array(confusion)
    drawn = most_confused(counts, MOST_CLASSES)
    scale = _scale(len(drawn))
    if len(drawn) < len(classes):
        title += f"\n{len(drawn)} of {len(classes):,} classes: those confused most"
    names = [_words(both_ends(classes[at], 24), scale.names) for at in drawn]
    slanted = max(name.width for name in names) > scale.cell - MARGIN
    below = [_slanted(name) if slanted else name for name in names]
    heading, across = _words(title, scale.names), _words("answer", scale.names)
    upright = _words("true class", scale.names).rotate(90, expand=True)
    left = upright.width + max(name.width for name in names) + 3 * MARGIN
    top, side = heading.height + 2 * MARGIN, scale.cell * len(drawn)
    foot = top + side + max(label.height for label in below) + MARGIN
    size = max(left + side, heading.width + MARGIN) + MARGIN, foot + across.height + MARGIN
    whole = Image.new("RGB", size, "white")
    whole.paste(_cells(counts, drawn, scale), (left, top))
    for mask, corner in (
        (heading, (MARGIN, MARGIN)),
        (upright, (MARGIN // 2, top + (side - upright.height) // 2)),
        (across, (left + (side - across.width) // 2, foot)),
    ):
        whole.paste("black", corner, mask)
    for place, (name, label) in enumerate(zip(names, below, strict=True)):
        middle = round((place + 0.5) * scale.cell)
        whole.paste("black", (left - MARGIN // 2 - name.width, top + middle - name.height // 2), name)
        x = middle - (label.width - name.height // 2 if slanted else label.width // 2)
        whole.paste("black", (max(left + x, 0), top + side + MARGIN // 2), label)
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


def _cells(counts: np.ndarray, drawn: list[int], scale: _Scale) -> Image.Image:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell, font = scale.cell, _font(scale.counts)
    whole = Image.new("RGB", (cell * len(drawn) + 1,) * 2, "white")
    draw = ImageDraw.Draw(whole)
    for row, true in enumerate(drawn):
        for column, answer in enumerate(drawn):
            count, share = counts[true, answer], shares[true, answer]
            x, y = column * cell, row * cell
            hue = np.array(RIGHT if row == column else WRONG)
            shade = tuple(int(value) for value in 255 - share * (255 - hue))
            draw.rectangle((x, y, x + cell, y + cell), shade, "lightgray")
            if count or scale.roomy:
                words = f"{count:,}\n{share:.0%}" if scale.roomy and counts[true].any() else f"{count:,}"
                colour = "white" if share > DARK else "black" if count else "darkgray"
                draw.multiline_text((x + cell // 2, y + cell // 2), words, colour, font, anchor="mm", align="center")
    return whole


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size)


def _words(text: str, size: int) -> Image.Image:
    """A mask of the lines of a text."""
    font = _font(size)
    lines, high = text.splitlines() or [""], sum(font.getmetrics()) + 2
    mask = Image.new("L", (max(1, *(int(font.getlength(line)) for line in lines)), high * len(lines)))
    for number, line in enumerate(lines):
        ImageDraw.Draw(mask).text((0, high * number), line, 255, font)
    return mask


def _slanted(words: Image.Image) -> Image.Image:
    """The same at 45 degrees: it ends at its upper right corner."""
    return words.rotate(45, expand=True, resample=Image.Resampling.BICUBIC)


def _fitting(line: str, font: ImageFont.FreeTypeFont) -> str:
    line = shortened(line, SIDE // 3)
    while font.getlength(line) > SIDE - 2 * MARGIN:
        line = f"{line[:-2]}…"
    return line
