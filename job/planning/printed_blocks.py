"""What the blocks of `thaw plan` are put together from."""

from __future__ import annotations

from rich.table import Column, Table
from rich.text import Text

Shown = str | Text | Table
BAR = 20
"""Columns of the longest bar."""
EIGHTHS = " ▏▎▍▌▋▊▉"
STAGES = {
    "fine_tune": "fine-tuning",
    "preparing": "weights, start of Ray",
    "workers": "start of workers",
    "head_workers": "the head's workers",
}


def bar(value: float, largest: float, width: int = BAR) -> str:
    """A bar of blocks, in eighths of a column; at least the thinnest where there is anything."""
    eighths = round(8 * width * value / largest) if largest else 0
    eighths = max(eighths, 1) if value else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def spanned(low: str, high: str) -> str:
    return "" if low == high else f"{low} to {high}"


def plain_table(*columns: Column | str, header: bool = True) -> Table:
    return Table(*columns, box=None, pad_edge=False, show_header=header)


def right_aligned(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def stage_name(name: str) -> str:
    return STAGES.get(name, name)
