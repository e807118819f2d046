"""What pictures of a sample have that may be lost on the way to the network: further pictures, and bits."""

from __future__ import annotations

from dataclasses import dataclass

from job.data.look import Look

LOOKED = 100
"""Pictures that are looked at: the first of the sample that can be used."""


@dataclass(frozen=True)
class Looks:
    looked: int = 0
    several: int = 0
    """Those that are animated, or have pages."""
    deep: int = 0
    """Those of more than 8 bits."""
    values: tuple[int, int, int] | None = None
    """The lowest and the highest value of these, and their bits."""


NO_LOOKS = Looks()


def summed(looks: list[Look]) -> Looks:
    values = [one.values for one in looks if one.values]
    bounds = None
    if values:
        lowest, highest, bits = zip(*values, strict=True)
        bounds = min(lowest), max(highest), max(bits)
    return Looks(len(looks), sum(one.pictures > 1 for one in looks), sum(one.deep for one in looks), bounds)
