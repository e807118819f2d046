"""TensorBoard over the runs of a store."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from job.errors import JobError, ThawError
from job.storage import Store
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch

START = "import sys; sys.modules['tensorflow'] = None; from tensorboard.main import run_main; run_main()"
"""TensorBoard without TensorFlow, which it would import for nothing: seconds, and most of its memory."""
INTERVAL = 15.0
"""Seconds between two looks at the store."""
PATIENCE = 5.0
"""Seconds in which TensorBoard has to end once it is asked to."""
EVENTS = re.compile(r"runs/([A-Za-z0-9][^/]*)/tensorboard/(events[^/]*)")


def serve(store: Store, run: str | None, *, host: str, port: int, say: Callable[[str], None]) -> NoReturn:
    """Serves this run, or all runs of the store, until the process is ended; says so where they have no event files.

    Event files are copied to this machine, since TensorBoard reads no object storage without a plug-in. Raises
    JobError, StorageError.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise JobError("TensorBoard is not installed: pip install tensorboard.")
    prefix = RunKeys(run).tensorboard if run else "runs/"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as the first process of a container it would not be heard
    with scratch() as folder:
        if not mirror(store, prefix, Path(folder)):
            say(f"{store.uri}{prefix}: there are no event files so far; they are shown once there are.")
        command = [sys.executable, "-c", START, "--logdir", folder, "--host", host, "--port", str(port)]
        process = subprocess.Popen([*command, "--reload_interval", f"{INTERVAL:g}", "--load_fast", "true"])
        try:
            while process.poll() is None:
                time.sleep(INTERVAL)
                try:
                    mirror(store, prefix, Path(folder))
                except ThawError as error:  # what was copied is still served
                    say(str(error))
            sys.exit(process.returncode)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:  # it may be deaf while it starts
                process.kill()
                process.wait()


def mirror(store: Store, prefix: str, folder: Path) -> list[str]:
    """Copies the event files below `prefix` to `folder/<run>/<name>` as far as they are new; their keys.

    TensorBoard keeps files open: what a file has grown by is appended to its copy.
    """
    copied = []
    for info in store.list(prefix):
        match = EVENTS.fullmatch(info.key)
        if match is None:
            continue
        copy = folder / match[1] / match[2]
        size = copy.stat().st_size if copy.exists() else 0
        if info.size > size:
            copy.parent.mkdir(exist_ok=True)
            with open(copy, "ab") as file:
                file.write(store.read(info.key)[size:])
            copied.append(info.key)
    return copied
