"""Numbers as words, also where rounding leads into the next unit."""

from __future__ import annotations

import pytest

from job.wording import both_ends, size, work


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 bytes"),
        (1023.4, "1023 bytes"),
        (1023.7, "1.0 KiB"),
        (9.94 * 2**10, "9.9 KiB"),
        (9.96 * 2**10, "10 KiB"),
        (1023.4 * 2**10, "1023 KiB"),
        (1023.7 * 2**10, "1.0 MiB"),
        (1023.7 * 2**20, "1.0 GiB"),
        (1023.7 * 2**30, "1.0 TiB"),
    ],
)
def test_bytes_are_fewer_than_1024_of_their_unit(count: float, told: str) -> None:
    assert size(count) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (5, "5"),
        (999.4, "999"),
        (999.7, "1 k"),
        (999_400, "999 k"),
        (999_700, "1 M"),
        (9.997e11, "1 T"),
        (9.997e17, "1 E"),
    ],
)
def test_multiply_adds_are_fewer_than_1000_of_their_unit(count: float, told: str) -> None:
    assert work(count) == told


def test_a_long_name_keeps_both_of_its_ends() -> None:
    assert both_ends("abc\n defghij", 11) == "abc defghij"
    assert both_ends("abcdefghijkl", 11) == "abcde…hijkl"
    assert all(len(both_ends("a" * 100, length)) == length for length in range(2, 50))
