"""`thaw`, and `python -m job`."""

from __future__ import annotations

import os
import sys

from job.libraries import HUGE_PAGES, TUNABLES

COMPUTING = ("run", "demo", "sweep", "plan")
"""The verbs that may train in this process, if only to measure it."""


def start() -> None:
    """Runs the command line. glibc looks at its settings as a process starts, so that one which is to compute starts
    once more with them, as the same process; what a person has set stays.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ and sys.argv[1:2] in [[verb] for verb in COMPUTING]:
        os.environ[TUNABLES] = HUGE_PAGES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    from job.cli import main

    main()


if __name__ == "__main__":
    start()
