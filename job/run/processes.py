"""The processes of this machine or container, from Linux's /proc."""

from __future__ import annotations

from pathlib import Path


def descendants(process: int) -> list[int]:
    """The ids of all children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    all_found, to_see = [], [process]
    while to_see:
        own_children = children.get(to_see.pop(), [])
        all_found += own_children
        to_see += own_children
    return all_found


def command_line(process: int) -> list[str]:
    """The program and the arguments of a process; [""] where there is no such process, or only a zombie."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return [""]


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
