"""A command in a real terminal: tmux's, with what it shows on the way and what it has written."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from support.tools import need

ENDED = "ended with "
EVERY = 0.3
"""Seconds between two looks."""


@dataclass
class Session:
    width: int
    raw: bytes = b""
    """All that was written to the terminal."""
    screens: list[str] = field(default_factory=list)
    """What was on it while the command ran, without what came twice."""
    lines: list[str] = field(default_factory=list)
    """At the end, with what has scrolled away; a line that the terminal has wrapped is one."""
    status: int = -1

    @property
    def bars(self) -> list[str]:
        return [line for screen in self.screens for line in screen.splitlines() if re.search(r"\d %  ", line)]


def session(folder: Path, command: list[str], width: int, seconds: float = 400, **environment: str) -> Session:
    """Runs the command to its end in a terminal of so many columns and 60 lines."""
    need("tmux")
    server = f"thaw-{uuid.uuid4().hex[:8]}"
    written = folder / f"{server}.raw"
    words = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
    go = f"tmux -L {server} wait-for go"
    script = f"{go}; {shlex.join(words)}; echo '{ENDED}'$?; exec sleep 3600"

    def tmux(*arguments: str) -> str:
        whole = ["tmux", "-L", server, "-f", "/dev/null", *arguments]
        return subprocess.run(whole, capture_output=True, text=True, check=True, timeout=30).stdout

    found, end = Session(width), time.monotonic() + seconds
    tmux("new-session", "-d", "-x", str(width), "-y", "60", script)
    try:
        tmux("pipe-pane", "-o", f"cat > {shlex.quote(str(written))}")
        tmux("wait-for", "-S", "go")
        while f"\n{ENDED}" not in f"\n{(screen := tmux('capture-pane', '-p'))}":
            assert time.monotonic() < end, screen
            if screen not in found.screens[-1:]:
                found.screens.append(screen)
            time.sleep(EVERY)
        *lines, last = tmux("capture-pane", "-p", "-J", "-S", "-").rstrip().splitlines()
        found.lines, found.status = [line.rstrip() for line in lines], int(last.removeprefix(ENDED))
        found.raw = written.read_bytes()
    finally:
        tmux("kill-server")
    return found
