"""The pages in Chromium: they ask for nothing, say nothing, and can be read by everybody, on paper too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.evaluation.compare import compare_runs
from job.evaluation.intervals import Bin, Interval
from job.evaluation.run_documents import read_documents
from job.report.curves import depth_curve, range_curves
from job.report.finished import page_of
from job.report.page import shown
from job.report.page.charts import (
    Curve,
    accuracy_chart,
    bar_chart,
    calibration_chart,
    interval_chart,
    loss_chart,
)
from job.report.page.comparison import comparison_page
from job.report.page.learning import CURVES
from job.report.page.render import SECTIONS
from job.report.svg import theme
from job.run.outcome import RangeTest
from job.wording import METRICS
from support.browser import WIDTHS, axe_script, browser, violations
from support.finished import BLOCKS, Made
from support.results import summary_of_depth

COMPARED = ["runs", "differences", "disagreements"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with hostile names, and with what the network looked at, though no network is asked."""
    folder = tmp_path_factory.mktemp("run")
    store, run = Made(folder, settings="scaling: {workers: 2, worker_price: 1.5}").finish()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown, "load_exported", lambda model: None)
        patch.setattr(shown, "_looked", looked)
        html = page_of(read_documents(store, run), {"thaw": "1.2.3"})
    assert all(block["block"] for block in BLOCKS)
    (folder / "page.html").write_text(html, encoding="utf-8")
    return f"file://{folder}/page.html"


@pytest.fixture(scope="module")
def comparison_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of two models of a run with hostile names: jobs that differ, pictures, and what can't be shown."""
    folder = tmp_path_factory.mktemp("comparison")
    run = read_documents(*Made(folder).finish())
    predictions = replace(run.predictions, chances={run.kept: run.predictions.chances["head"]})
    job = run.job.model_copy(update={"train": run.job.train.model_copy(update={"seed": 7})})
    html = comparison_page(compare_runs([run, replace(run, job=job, predictions=predictions)]))
    assert "Not shown: " in html
    (folder / "page.html").write_text(html, encoding="utf-8")
    return f"file://{folder}/page.html"


@pytest.fixture(params=["page_file", "comparison_file"])
def file(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def looked(model: Any, form: Any, mistakes: list[shown.Shown], **_: Any) -> list[shown.Looked]:
    words = [("<b>cell</b>", 0.4), ("the", -0.1), ("defect", 0.02)]
    return [
        shown.Looked(one, one.seen.picture, [] if number else words, "It rests on x.")
        for number, one in enumerate(mistakes)
    ]


def every_chart() -> list[str]:
    """Charts of little, of much, and with long names."""
    few = Interval(0.99, 0.93, 1.0)
    marks = [(20.0 + 2 * place, f"block{place}a_expand_activation thaws") for place in range(9)]
    curves = [Curve(style, name, [(x, 10.0**-x) for x in range(1, 40)]) for style, name in CURVES.values()]
    bins = [Bin(0.1 * place, 0.1 * place + 0.1, 3, 0.1 * place, few) for place in range(10)]
    days = [(f"2026-{1 + place // 28:02d}-{1 + place % 28:02d}", place * 10**6) for place in range(60)]
    depth = summary_of_depth(0, runs=1, accuracy=1.0, accuracy_deviation=None, seconds=1e6)
    tested = RangeTest(1e-7, rates=[1e-6, 1e-5, 1e-4], losses=[1.0, None, 9.0])
    drawn = [
        interval_chart(dict.fromkeys(("head", "fine_tune"), dict.fromkeys(METRICS, few))),
        loss_chart("told", curves, marks),
        loss_chart("told", [Curve("s1", "training loss", [(1, 0.5)])], [(1, "thaw")]),
        accuracy_chart("told", [Curve("s2", "validation accuracy", [(1, 1.0), (2, 0.00001)])], marks[:1]),
        calibration_chart(bins, 0.1),
        *(bar_chart("told", days[:most]) for most in (1, 2, 7, 60)),
        depth_curve([replace(depth, blocks=blocks) for blocks in range(30)], "a name of a job " * 9).decode(),
        range_curves({"head": tested, "fine_tune": replace(tested, learning_rate=0.3)}).decode(),
    ]
    return [str(one) for one in drawn]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_words_of_a_chart_are_cut_or_cover_others(width: int, chromium: Any, tmp_path: Path) -> None:
    figures = "".join(f"<figure>{svg}</figure>" for svg in every_chart())
    (tmp_path / "charts.html").write_text(f"<meta charset=utf-8><style>{theme()}</style>{figures}", encoding="utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.goto(f"file://{tmp_path}/charts.html")
    hidden = page.evaluate("""() => [...document.querySelectorAll("figure > svg")].flatMap((svg, number) => {
        const whole = svg.getBoundingClientRect()
        const texts = [...svg.querySelectorAll("text")].map(one => [one.textContent, one.getBoundingClientRect()])
        const cut = texts.filter(([_, box]) => box.left < whole.left - 1 || box.right > whole.right + 1
            || box.top < whole.top - 1 || box.bottom > whole.bottom + 1)
        const covered = texts.filter(([_, box], place) => texts.slice(place + 1).some(([_, other]) =>
            box.left < other.right && other.left < box.right
            && box.top + 3 < other.bottom - 3 && other.top + 3 < box.bottom - 3))
        return [...cut, ...covered].map(([words]) => [number, words])
    })""")
    assert page.locator("figure > svg").count() == 11
    assert hidden == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_asks_for_nothing_and_says_nothing(scheme: str, width: int, file: str, chromium: Any) -> None:
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file]
    sections, pictures = (list(SECTIONS), 10) if "comparison" not in file else (COMPARED, 4)
    assert page.locator("section").evaluate_all("all => all.map(one => one.id)") == sections
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "all => all.filter(one => !one.complete || !one.naturalWidth).length"
    assert page.locator("img").count() >= pictures
    assert page.locator("img").evaluate_all(broken) == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    context.close()


def test_everybody_can_read_it(file: str, chromium: Any, tmp_path: Path) -> None:
    script = axe_script(tmp_path)
    for scheme, width in zip(("light", "dark"), WIDTHS, strict=True):
        size = {"width": width, "height": 844}
        context = chromium.new_context(color_scheme=scheme, viewport=size, bypass_csp=True)
        page = context.new_page()
        page.goto(file)
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")
        assert violations(page, script) == [], (scheme, width)
        context.close()


def test_all_of_it_is_reached_by_keyboard(page_file: str, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(page_file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#quality"
    page.keyboard.press("Enter")
    assert page.url.endswith("#quality")
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("one => one.open")
    page.close()


def test_on_paper_what_is_folded_is_open(page_file: str, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(page_file)
    seen = "one => one.checkVisibility({contentVisibilityAuto: true}) && one.getBoundingClientRect().height > 0"
    settings = page.locator("details pre")
    assert not settings.evaluate(seen)
    page.emulate_media(media="print")
    assert settings.evaluate(seen)
    page.close()
