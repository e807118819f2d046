"""A real browser, and axe-core's rules of accessibility in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.tools import leave_out, need

AXE = "axe-core@4.11.0"
WIDTHS = (390, 1280)
"""Of a phone and of a desk, in pixels."""


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; skips the test where either is missing."""
    need("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        leave_out("playwright is not installed")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


def axe_script(folder: Path) -> str:
    """The path of axe-core's script, fetched with npm into an empty folder."""
    need("npm")
    command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    packed = list(folder.glob("axe-core-*.tgz"))
    if done.returncode or not packed:
        leave_out(f"{AXE} can't be fetched with npm: {done.stderr.strip()[-200:]}")
    shutil.unpack_archive(packed[0], folder, filter="data")
    return str(folder / "package/axe.min.js")


def violations(page: Any, script: str) -> list[str]:
    """What axe-core finds wrong in the page, which must have been opened with bypass_csp."""
    page.add_script_tag(path=script)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]
