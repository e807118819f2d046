"""Chromium, and axe-core, for tests of pages."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import leave_out, need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = "axe-core@4.14.1"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's; as root it has no sandbox."""
    need("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        leave_out("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def fetch_axe(folder: Path) -> str:
    """Its source."""
    need("npm")
    try:
        subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, check=True, capture_output=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        leave_out(f"npm pack {AXE}: {error}")
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as packed:
        member = packed.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def violations(page: Page, axe: str) -> list[dict[str, Any]]:
    """What axe-core finds wrong with the page as it is, rules of WCAG 2 A and AA and best practices."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert {"color-contrast", "document-title", "label"} <= {rule["id"] for rule in found["passes"]}
    return [{"rule": rule["id"], "nodes": [node["html"] for node in rule["nodes"]]} for rule in found["violations"]]
