"""One case of gpu.py: what is measured, the process of its own that measures it, and the rows that come of it.

python benchmarks/gpu_case.py CASE FILE

CASE is a Case as JSON; its rows are written to FILE.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from job.config import LITE, Job
from job.config.jobfile import parse_job
from job.errors import headline
from job.libraries import HUGE_PAGES, TUNABLES
from job.run.fake_gpu import FAKE

MODULES = {
    "device": "gpu_devices",
    "first_use": "gpu_devices",
    "memory": "gpu_devices",
    "second_process": "gpu_devices",
    "all_reduce": "gpu_group",
    "member": "gpu_group",
    "extraction": "gpu_networks",
    "fine_tune": "gpu_networks",
    "prefetch": "gpu_networks",
}
"""The module with the function of each kind of case."""
WARM = 2
"""Calls that compile and fill caches, before those that count."""
JOB = """
name: gpu
data: {{source: "file://{folder}/none/"}}
store: "file://{folder}/store/"
model: {{backbone: {backbone}, weights: {weights}, image_size: {image_size}}}
phases: {{fine_tune: {fine_tune}}}
train: {{batch_size: {batch}, precision: {precision}, jit_compile: {xla}, cache: on, cache_dtype: bfloat16}}
scaling: {{gpu: {gpu}, workers: 1, executor: local}}
"""


@dataclass(frozen=True)
class Case:
    kind: str
    gpu: bool
    image_size: int
    batch: int = 32
    steps: int = 1
    """Batches of a call, or of an epoch, at most."""
    rounds: int = 1
    """Calls that count."""
    backbone: str = "efficientnet_lite0"
    precision: str = "float32"
    xla: bool = False
    growth: bool = True
    """Whether a process takes memory of the GPU as it needs it, or nearly all of it at once, as TensorFlow does."""
    mebibytes: Sequence[int] = ()
    """The sizes of the vectors that workers add up."""
    workers: int = 1
    rank: int = 0
    addresses: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """What was measured, or why nothing was."""

    kind: str
    settings: dict[str, Any]
    unit: str = ""
    sides: dict[str, float] = field(default_factory=dict)
    """The figures; that of Thaw first, where it has one."""
    ratio: float | None = None
    """The first figure by the second."""
    more: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    failed: str = ""
    """The reason why there are no figures."""


class Ended(NamedTuple):
    rows: list[Row]
    output: str
    """What the process wrote to its terminal."""

    @property
    def failed(self) -> str:
        return next((row.failed for row in self.rows if row.failed), "")


SHOWN = {
    "extraction": ("backbone", "precision", "xla", "batch", "image_size"),
    "fine_tune": ("backbone", "precision", "xla", "batch", "image_size"),
    "prefetch": ("backbone", "precision", "batch", "image_size"),
    "memory": ("backbone", "precision", "batch", "image_size", "growth"),
    "all_reduce": ("workers",),
}
"""The settings that make a difference to each kind."""


def shown(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in SHOWN.get(case.kind, ())}


def compared(case: Case, unit: str, sides: dict[str, float], **others: Any) -> Row:
    """A row with two figures, and their ratio."""
    first, second = sides.values()
    return Row(case.kind, shown(case), unit, sides, first / second, **others)


def job_of(case: Case, folder: str, *, fine_tune: bool = False) -> Job:
    """The job that has the case's settings, its store in the folder."""
    settings = {
        "folder": folder,
        "backbone": case.backbone,
        "weights": "package" if case.backbone in LITE else "none",
        "image_size": case.image_size,
        "fine_tune": "{unfreeze: {blocks: 1}}" if fine_tune else "null",
        "batch": case.batch,
        "precision": case.precision,
        "xla": str(case.xla).lower(),
        "gpu": str(case.gpu).lower(),
    }
    return parse_job(JOB.format(**settings))


def in_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each, called in turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(WARM + rounds):
        for call, mine in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            if turn >= WARM:
                mine.append(time.perf_counter() - began)
    return [statistics.median(mine) for mine in seconds]


class CaseProcess:
    """The process that measures a case. Its own processes are in its group, and end with it."""

    def __init__(self, case: Case, environment: Mapping[str, str] | None = None, *, leads: bool = True) -> None:
        """`leads`: it is the first of a group of its own."""
        self._case, self._leads = case, leads
        self._folder = tempfile.TemporaryDirectory(prefix="thaw-gpu-")
        self._rows, self._output = (Path(self._folder.name, name) for name in ("rows", "output"))
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        variables.setdefault(TUNABLES, HUGE_PAGES)  # as the product's processes have it
        variables.pop(FAKE, None)  # a sleep is no GPU
        if not case.gpu:
            variables["CUDA_VISIBLE_DEVICES"] = "-1"
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(asdict(case)), str(self._rows)],
                stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=leads,
            )  # fmt: skip

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def ended(self, timeout: float | None = None) -> Ended:
        """Waits for its end, and ends it after `timeout` seconds."""
        reason = ""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            reason = f"it was not done after {timeout:g} s, and was ended"
        self.end()
        output = self._output.read_text(errors="replace")
        rows = [Row(**row) for row in json.loads(self._rows.read_text())] if self._rows.exists() else []
        if not rows:
            rows = [Row(self._case.kind, shown(self._case), failed=reason or anonymous(self._last_words(output)))]
        self._folder.cleanup()
        return Ended(rows, output)

    def end(self) -> None:
        """Ends it and all that it has started."""
        with suppress(ProcessLookupError):
            if self._leads:
                os.killpg(self._process.pid, signal.SIGKILL)
            elif self._process.poll() is None:
                self._process.kill()
        self._process.wait()

    def _last_words(self, output: str) -> str:
        code = self._process.returncode
        how = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return f"{how}: {lines[-1]}" if lines else how


def anonymous(text: str) -> str:
    """The text without the names of the machine and of whoever runs this."""
    return re.sub(rf"\b{re.escape(platform.node() or '?')}\b", "HOST", text.replace(str(Path.home()), "~"))


def main(case: Case, file: Path) -> NoReturn:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        rows: list[Row] = getattr(import_module(MODULES[case.kind]), case.kind)(case)
    except Exception as error:  # a case that fails is a row like the others
        rows = [Row(case.kind, shown(case), failed=anonymous(headline(error)))]
    written = file.with_suffix(".part")
    written.write_text(json.dumps([asdict(row) for row in rows]))
    written.rename(file)
    sys.exit(int(any(row.failed for row in rows)))


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])), Path(sys.argv[2]))
