"""The page of `thaw serve` in a browser: a picture is dropped, a text typed, and the answer read."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from job.export.predict import loaded
from support import browser, exported, texts
from support.cases import slow
from support.images import picture
from support.served import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODEL = "s3://models/tiny/"
SIZES = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 800}}
DROP = """async ([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name));
  document.querySelector(".drop").dispatchEvent(
    new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return browser.axe_script(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def pictures(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = exported.finished_pictures(tmp_path_factory.mktemp("pictures"))
    with loaded(run.uri) as predictor, served(predictor, MODEL) as uri:
        yield uri


@pytest.fixture(scope="module")
def words(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = exported.finished_texts(tmp_path_factory.mktemp("texts"))
    with loaded(run.uri) as predictor, served(predictor, MODEL) as uri:
        yield uri


@contextmanager
def opened(chromium: Browser, uri: str, **settings: Any) -> Iterator[Page]:
    """A page that has said what it asks for; nothing may be wrong in its console at the end."""
    wrong: list[str] = []
    with chromium.new_context(**settings) as context:
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(uri)
        page.get_by_text("with its probability").wait_for()
        yield page
        assert [text for text in wrong if "422" not in text] == []


def drop(page: Page, content: bytes, name: str) -> None:
    page.evaluate(DROP, [base64.b64encode(content).decode(), name])


def test_a_dropped_picture_is_answered(chromium: Browser, pictures: str) -> None:
    with opened(chromium, pictures) as page:
        drop(page, picture(1000, "red"), "a red one.png")
        page.get_by_role("heading", name="Answer: red").wait_for()
        rows = page.locator("#answer li").all_inner_texts()
        assert [row.split("\n")[0] for row in rows] == ["red", "green"]
        assert page.get_by_role("img", name="The picture that was asked about: a red one.png").is_visible()
        drop(page, picture(1001, "green"), "another.png")
        page.get_by_role("heading", name="Answer: green").wait_for()


def test_a_file_that_is_no_picture_gets_a_sentence(chromium: Browser, pictures: str) -> None:
    with opened(chromium, pictures) as page:
        drop(page, picture(1000, "red"), "red.png")
        page.get_by_role("heading", name="Answer: red").wait_for()
        drop(page, b"%PDF-1.7 only words", "letter.pdf")
        page.get_by_role("alert").filter(has_text="not an image: it is a PDF document.").wait_for()
        assert not page.locator("#answer").is_visible()
        assert "red" not in page.get_by_role("heading", name="Answer").inner_text()


def test_a_picture_is_chosen_by_keyboard(chromium: Browser, pictures: str, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(picture(1002, "green"))
    with opened(chromium, pictures) as page:
        page.on("filechooser", lambda _: None)  # or the key may come before Playwright listens
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        assert page.locator(".drop").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(tmp_path / "green.png")
        page.get_by_role("heading", name="Answer: green").wait_for()


def test_a_typed_text_is_answered(chromium: Browser, words: str) -> None:
    with opened(chromium, words) as page:
        page.get_by_label("A text").fill(texts.text(1000, "sailing"))
        page.keyboard.press("Control+Enter")
        page.get_by_role("heading", name="Answer: sailing").wait_for()
        page.get_by_label("A text").fill(texts.text(1001, "cooking"))
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("heading", name="Answer: cooking").wait_for()
        page.get_by_label("A text").fill("?!")
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("alert").filter(has_text="This text can't be used: no words in it.").wait_for()


def test_many_classes_with_hostile_names(chromium: Browser) -> None:
    names = ["<img src=x onerror=alert(1)>", "two\nlines", "\u202etext", "🦭", *(f"class {n}" for n in range(996))]
    answer = {"class": names[0], "probabilities": dict(zip(names, [0.5, *[0.5 / 999] * 999], strict=True))}
    predictor = SimpleNamespace(task="image", classes=names, answers=lambda encoded: [answer])
    with served(predictor, MODEL) as uri, opened(chromium, uri, viewport=SIZES["phone"]) as page:
        drop(page, picture(0, "red"), "<b>.png")
        page.get_by_text("990 other classes, 49.5 % together").wait_for()
        assert page.locator("#answer li").count() == 10
        assert page.locator("#answer img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("phone", "dark"), *slow(("desktop", "dark"), ("phone", "light"))]
)
def test_axe_finds_nothing_wrong(
    size: str, scheme: str, chromium: Browser, pictures: str, words: str, axe: str
) -> None:
    for uri in (pictures, words):
        with opened(chromium, uri, viewport=SIZES[size], color_scheme=scheme, bypass_csp=True) as page:
            assert browser.violations(page, axe) == []
            if uri == pictures:
                drop(page, picture(1000, "red"), "red.png")
            else:
                page.get_by_label("A text").fill(texts.text(1000, "sailing"))
                page.keyboard.press("Control+Enter")
            page.get_by_role("heading", name="Answer: ").wait_for()
            assert browser.violations(page, axe) == []
            if uri == pictures:
                drop(page, b"words", "words")
                page.get_by_role("alert").filter(has_text="not an image").wait_for()
                assert browser.violations(page, axe) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
