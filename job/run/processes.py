"""The processes of this machine, or of this container, as Linux shows them."""

from __future__ import annotations

from pathlib import Path


def descendants(process: int) -> list[int]:
    """All processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, to_see = [], [process]
    while to_see:
        mine = children.get(to_see.pop(), [])
        found += mine
        to_see += mine
    return found


def command_line(process: int) -> list[str]:
    """Program and arguments; [""] where there is no such process, or only what is left of one."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return [""]


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
