"""Charts: each value lies where the axes say that it lies, and what can't be drawn or written leaves the rest."""

from __future__ import annotations

import math

import pytest

from job.report.axes import Axis, counts, in_percent, linear, logarithmic, number, round_ticks, shares, steps
from job.report.svg import Chart, svg_file, text_width
from support.drawn import Drawn


def near(points: list[tuple[float, float]], wanted: list[tuple[float, float]], within: float = 0.01) -> bool:
    return len(points) == len(wanted) and all(
        math.isclose(one, other, rel_tol=within, abs_tol=within)
        for point, value in zip(points, wanted, strict=True)
        for one, other in zip(point, value, strict=True)
    )


def test_a_curve_lies_where_its_axes_say() -> None:
    points = [(1.0, 0.25), (2.0, 0.5), (3.0, 0.4), (6.0, 0.9)]
    chart = Chart("told", steps(1, 6), linear([0.25, 0.9]))
    chart.line(points, "s1")
    assert near(Drawn(chart.svg()).curve("s1")[0], points)


def test_on_logarithmic_axes_too() -> None:
    points = [(0.002, 30.0), (0.05, 400.0), (0.9, 70.0)]
    chart = Chart("told", logarithmic([0.002, 0.9]), logarithmic([30.0, 400.0]))
    chart.line(points, "s1")
    (drawn,) = Drawn(chart.svg(), log=(True, True)).curve("s1")
    assert near(drawn, points, within=0.03)


def test_what_is_no_number_is_a_gap_and_a_value_alone_is_a_dot() -> None:
    chart = Chart("told", steps(1, 6), linear([0.0, 1.0]))
    nan, inf = float("nan"), float("inf")
    chart.line([(1, 0.2), (2, nan), (3, 0.4), (4, 0.6), (5, inf), (6, nan)], "s2")
    drawn = Drawn(chart.svg())
    assert near(drawn.dots("s2"), [(1, 0.2)])
    assert [len(part) for part in drawn.curve("s2")] == [2]
    assert "nan" not in chart.svg()
    assert "inf" not in chart.svg()


def test_a_curve_ends_at_the_edges_of_the_plot_and_a_dot_beyond_it_is_not_drawn() -> None:
    chart = Chart("told", steps(1, 3), Axis(0, 2, [0, 1, 2]))
    chart.line([(1, 1), (2, 50)], "s1")
    chart.line([(3, 50)], "s2")
    drawn = Drawn(chart.svg())
    (plot,) = drawn.all("plot")
    assert any("curve s1" in path.get("class", "") for path in plot), (
        "an <svg> in another one cuts what is outside of it"
    )
    assert drawn.dots("s2") == []


def test_an_interval_has_its_value_and_its_ends() -> None:
    chart = Chart("told", Axis(0, 1, [0, 0.5, 1], written=in_percent), Axis(0, 2, [0, 1, 2]))
    chart.interval(((0.25, 1), (0.75, 1)), (0.5, 1), "s1", title="half of <all>")
    drawn = Drawn(chart.svg())
    assert near(drawn.dots("s1"), [(50, 1)])
    assert "half of <all>" in drawn.text
    assert "half of &lt;all&gt;" in chart.svg()


def test_bars_are_as_high_as_their_counts_and_a_small_one_can_be_seen() -> None:
    chart = Chart("told", steps(0, 4), counts([1_000_000]))
    for place, count in enumerate([1_000_000, 500_000, 3, 0]):
        chart.bar(place, place + 0.8, count, title=f"bar {count}")
    heights = [float(bar.get("height", "")) for bar in Drawn(chart.svg()).all("column")]
    assert heights == [185.0, 92.5, 1.0, 0.0]


def test_names_of_marks_that_have_no_room_beside_each_other_become_numbers() -> None:
    marks = [(10.0 + 2 * place, f"block{place} of the network thaws") for place in range(4)]
    far = Drawn(Chart("told", steps(0, 40), linear([0, 1]), marks=[(5.0, "one"), (35.0, "two")]).svg())
    assert [one.text for one in far.all("marked")] == ["one", "two"]
    near_each_other = Drawn(Chart("told", steps(0, 40), linear([0, 1]), marks=marks).svg())
    assert [one.text for one in near_each_other.all("marked")] == ["1", "2", "3", "4"]
    assert all(name in near_each_other.text for _, name in marks), "under the pointer"
    crowd = [(place / 10, f"mark {place}") for place in range(400)]
    crowded = Drawn(Chart("told", steps(0, 40), linear([0, 1]), marks=crowd).svg())
    assert len(crowded.all("mark")) == 400
    assert 5 < len(crowded.all("marked")) < 40


def test_a_name_at_the_edge_stays_inside() -> None:
    name = "a name that is longer than half of the picture"
    svg = Drawn(Chart("told", steps(0, 10), linear([0, 1]), marks=[(10.0, name)]).svg())
    (mark,) = svg.all("marked")
    assert float(mark.get("x", "")) + text_width(name) / 2 <= 440.1


def test_a_file_has_its_title_its_styles_and_nothing_from_elsewhere() -> None:
    chart = Chart('<told> & "more"', steps(0, 2), linear([0, 1]), title="<title>")
    file = svg_file('<told> & "more"', [chart, chart]).decode()
    root = Drawn(file).root
    assert root.get("role") == "img"
    assert root.get("aria-label") == '<told> & "more"'
    assert root[0].text == '<told> & "more"'
    light, dark = file.split("prefers-color-scheme: dark")
    assert ("stroke: #0b5fbd" in light, "stroke: #6cb0ff" in dark) == (True, True)
    assert "var(" not in file, "which viewers that are no browsers don't know"
    assert file.count("//") == 1, "the name of the namespace alone"
    assert svg_file('<told> & "more"', [chart, chart]).decode() == file


@pytest.mark.parametrize(
    ("low", "high"), [(0.2, 0.49), (0, 2624), (0.5, 0.5), (0, 0), (-3, 1e9), (0.8801, 0.8802), (3e-9, 4e-9)]
)
def test_ticks_are_round_and_hold_all_and_differ_in_their_words(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert len({number(tick) for tick in ticks}) == len(ticks)
    assert all(len(number(tick)) < 9 for tick in ticks)


def test_axes_of_shares_and_counts() -> None:
    assert list(shares([1.0, 1.0]).ticks)[-1] == 1.0, "no tick says more than 100 %"
    assert shares([1.0]).low < 1.0
    assert shares([1.2, -0.1]).high == 1.0
    few = counts([1])
    assert [few.written(tick) for tick in few.ticks] == ["0", "1"]
    assert list(steps(0, 12).ticks) == list(range(13))
    assert list(steps(1, 50).ticks) == [10, 20, 30, 40, 50]
    one = steps(3, 3)
    assert (one.low, list(one.ticks), one.high) == (2.5, [3], 3.5)
    wide = logarithmic([1e-30, 1e30])
    assert len(wide.ticks) <= 10


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.30000000000000004, "0.3"), (1200.0, "1,200"), (-3.0, "−3"), (1e-5, "10⁻⁵"), (-2e7, "−2·10⁷")],
)
def test_numbers_in_words(value: float, words: str) -> None:
    assert number(value) == words
