"""Memory figures of Linux, by which a later attempt can explain the end of a process that the kernel killed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The files with limit and usage of this container, for both versions of Linux's control groups."""
SCARCE = 0.05
"""Memory is scarce where less than this share of it is free."""


@dataclass(frozen=True)
class Memory:
    """The memory at one moment."""

    used: int
    """Bytes that this process uses."""
    free: int
    """Bytes that it could still use."""
    total: int
    """Bytes of the machine, or of the container where that has less."""
    kills: int
    """The number of processes that the kernel has killed for want of memory since the machine started."""


def memory_now() -> Memory | None:
    """The memory of this process at this moment; None where this is no Linux."""
    try:
        machine = _table("/proc/meminfo")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        free, total = 1024 * machine["MemAvailable"], 1024 * machine["MemTotal"]
        for limit, usage in CGROUPS:
            if (most := _number(limit)) is not None and most < total:
                free, total = min(free, most - (_number(usage) or 0)), most
        kills = _table("/proc/vmstat").get("oom_kill", 0)
        return Memory(pages * os.sysconf("SC_PAGE_SIZE"), max(0, free), total, kills)
    except (OSError, KeyError, ValueError, IndexError):
        return None


def why_ended(first: Memory | None, last: Memory | None, now: Memory | None) -> str:
    """Words about the end of a killed process, from the memory when it began (`first`), when it was `last` seen, and
    `now` on the same machine (None for another machine, or after a reboot). Empty where these explain nothing.
    """
    if last is None:
        return ""
    seen = f"it had {last.used / 2**30:.1f} GiB when it was last seen, and {last.free / 2**30:.1f} GiB were free"
    less = "Give it more memory, or lower train.batch_size"
    if first and now and now.kills > first.kills:
        return f" Since it began, the kernel has ended a process for want of memory; {seen}. {less}."
    if last.free < SCARCE * last.total:
        return f" Perhaps the kernel ended it for want of memory: {seen}. {less}."
    return ""


def _table(path: str) -> dict[str, int]:
    """The numbers by name in a file of lines such as `MemTotal: 123 kB`."""
    return {name: int(value) for name, value in re.findall(r"^(\w+):?\s+(\d+)", Path(path).read_text(), re.MULTILINE)}


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # there is none, or it is `max`
        return None
