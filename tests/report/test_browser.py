"""The pages in Chromium: they ask for nothing, say nothing, and can be read by everybody, on paper too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.evaluation.compare import compare_runs
from job.evaluation.documents import read_documents
from job.report.finished import page_of
from job.report.page import shown
from job.report.page.comparison import comparison_page
from job.report.page.render import SECTIONS
from support.browser import WIDTHS, axe_script, browser, violations
from support.finished import BLOCKS, Made

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


def looked(model: Any, form: Any, mistakes: list[shown.Shown], *_: Any) -> list[shown.Looked]:
    words = [("<b>cell</b>", 0.4), ("the", -0.1), ("defect", 0.02)]
    return [
        shown.Looked(one, one.picture, [] if number else words, "It rests on x.") for number, one in enumerate(mistakes)
    ]


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
