"""Kills the processes of a run with SIGKILL, at moments that its output and its store show.

Who can be killed: `worker` (one of those that decode, run the network or train), `driver` (the process of `thaw run`
alone), `machine` (that process and every other one that it has started, Ray's included).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job.run.processes import command_line, descendants
from job.storage import open_store

TRAINING = re.compile(r"RayTrainWorker")
WORKERS = re.compile(r"RayTrainWorker|DecodeObjects|Featurize")
"""In the names of processes."""
LOOK = 0.002
"""Seconds between looks at the store."""
PATIENCE = 300.0
"""Seconds until a moment that never comes is an error."""


@dataclass
class Scene:
    """What can be seen of a run from outside."""

    store: Path
    lines: list[str] = field(default_factory=list)
    """On standard error of the process that runs, since the last kill."""

    def said(self, words: str) -> bool:
        return any(words in line for line in list(self.lines))

    def run(self) -> Path | None:
        """The run's folder."""
        return next(iter(sorted((self.store / "runs").glob("*/"))), None)

    def features(self) -> int:
        """Parts that are complete."""
        return len([path for path in self.store.glob("features/*/*.json") if path.name != "featurizer.json"])

    def checkpoints(self) -> list[dict]:
        """Those that are listed."""
        try:
            return json.loads((run / "state.json").read_text())["checkpoints"] if (run := self.run()) else []
        except (OSError, ValueError):
            return []

    def reached(self, phase: str, epoch: int) -> bool:
        """Whether a checkpoint of this phase, in this epoch or later, is listed."""
        return any(entry["phase"] == phase and entry["epoch"] >= epoch for entry in self.checkpoints())

    def is_uploading(self) -> bool:
        """Whether a checkpoint is being written, or is there and not listed."""
        run = self.run()
        if run is None or not (run / "checkpoints").is_dir():
            return False
        names = set(os.listdir(run / "checkpoints"))
        return bool(names - {entry["name"] for entry in self.checkpoints()})


@dataclass(frozen=True)
class Kill:
    """At the first moment for which `when` holds, `who` dies."""

    name: str
    who: str
    when: Callable[[Scene], bool]


@dataclass
class Outcome:
    """A run that has ended by itself, whatever happened to it before."""

    result: dict
    """As `thaw run --json` printed it."""
    told: str
    """On standard error, in all attempts."""
    seconds: float
    attempts: int = 1
    struck: list[str] = field(default_factory=list)
    """The kills that took place; a run that ended before its next kill is done."""

    @property
    def weights(self) -> str:
        """sha256 of the exported weights, in hex."""
        return hashlib.sha256(open_store(self.result["model"]).read("weights.safetensors")).hexdigest()

    @property
    def history(self) -> dict[str, list[dict]]:
        """Of each phase, what was measured in each epoch."""
        return json.loads(open_store(self.result["run"]).read("training.json"))["history"]

    @property
    def digests(self) -> list[str]:
        """Of each epoch of training, that of the examples that were seen."""
        return [epoch["digest"] for epochs in self.history.values() for epoch in epochs if "digest" in epoch]


def run_with_kills(
    command: Sequence[str], store: Path, kills: Sequence[Kill] = (), environment: Mapping[str, str] | None = None
) -> Outcome:
    """Runs `command` (which must print its result as JSON) again and again until it ends by itself."""
    scene, began, told = Scene(store), time.monotonic(), ""
    attempts, struck, left = 0, [], list(kills)
    while True:
        attempts += 1
        with Watched(command, scene, environment) as process:
            while left and _strikes(left[0], process):
                kill = left.pop(0)
                struck.append(f"{kill.name}: {kill.who}")
                scene.lines.clear()
                if kill.who != "worker":
                    break
            else:
                done = process.outcome()
                return Outcome(done.result, told + done.told, time.monotonic() - began, attempts, struck)
            process.wait()
            told += process.told


def _strikes(kill: Kill, process: Watched) -> bool:
    """Whether somebody died, before the process ended by itself."""
    while process.lives_until(kill.when, kill.name):
        if strike(kill.who, process.pid):
            return True
        time.sleep(LOOK)
    return False


def strike(who: str, driver: int) -> bool:
    """Whether somebody died."""
    if who == "driver":
        victims = [driver]
    elif who == "worker":
        victims = _named(driver, WORKERS)
        victims = [random.choice(victims)] if victims else []
    else:
        victims = [driver, *descendants(driver)]
        for victim in victims:  # nobody starts another one meanwhile
            _signal(victim, signal.SIGSTOP)
        victims = [driver, *descendants(driver)]
    for victim in victims:
        _signal(victim, signal.SIGKILL)
    return bool(victims)


def training_workers(driver: int) -> list[int]:
    return _named(driver, TRAINING)


def _named(driver: int, names: re.Pattern[str]) -> list[int]:
    return [process for process in descendants(driver) if names.search(" ".join(command_line(process)))]


MOMENTS: dict[str, tuple[Callable[[Scene], bool], tuple[str, ...]]] = {
    "snapshot": (lambda scene: scene.said("listing"), ("driver", "machine")),
    "features": (lambda scene: scene.features() > 0, ("worker", "driver", "machine")),
    "workers' start": (lambda scene: scene.said("cache: "), ("worker", "driver", "machine")),
    "training": (lambda scene: scene.said("training on"), ("worker", "driver", "machine")),
    "checkpoint": (lambda scene: scene.said("training on") and scene.is_uploading(), ("worker", "driver", "machine")),
    "fine-tuning": (lambda scene: scene.said("fine-tune epoch"), ("worker", "driver", "machine")),
    "export": (lambda scene: scene.said("exporting"), ("driver", "machine")),
}
"""When somebody can be killed, and who."""


def random_kills(count: int, chance: random.Random) -> list[Kill]:
    """Kills of anybody, at one of MOMENTS or up to three seconds later."""
    kills = []
    for _ in range(count):
        name = chance.choice(list(MOMENTS))
        when, who = MOMENTS[name]
        kills.append(Kill(name, chance.choice(who), _later(when, 3 * chance.random() ** 2)))
    return kills


def _later(when: Callable[[Scene], bool], seconds: float) -> Callable[[Scene], bool]:
    since: list[float] = []

    def then(scene: Scene) -> bool:
        if not since and when(scene):
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return then


class Watched:
    """The command in a process of its own, with its standard error read as it comes.

    As a context: ends the process, and all that it has started, if it has not ended.
    """

    def __init__(self, command: Sequence[str], scene: Scene, environment: Mapping[str, str] | None = None) -> None:
        self._process = self._start(command, {**os.environ, "THAW_LOG": "text", **(environment or {})})
        self.scene, self.pid = scene, self._process.pid
        self._began, self._output, self._told = time.monotonic(), list[str](), list[str]()
        scene.lines.clear()
        self._readers = [
            threading.Thread(target=self._read_errors, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            strike("machine", self.pid)

    @property
    def status(self) -> int | None:
        return self._process.poll()

    @property
    def told(self) -> str:
        """On standard error, up to now."""
        return "".join(self._told)

    def lives_until(self, moment: Callable[[Scene], bool], name: str = "what was waited for") -> bool:
        """Whether the moment came before the process ended. Raises SystemExit if neither comes."""
        until = time.monotonic() + PATIENCE
        while not moment(self.scene):
            if self.status is not None:
                return False
            if time.monotonic() > until:
                raise SystemExit(f"{name}: the moment never came:\n{self._last()}")
            time.sleep(LOOK)
        return self.status is None

    def until(self, moment: Callable[[Scene], bool]) -> None:
        """Waits for a moment that must come. Raises SystemExit if the process ends before."""
        if not self.lives_until(moment):
            raise SystemExit(f"ended with {self.status} before what was waited for:\n{self._last()}")

    def wait(self) -> str:
        """Standard output, once the process has ended."""
        self._process.wait()
        for reader in self._readers:
            reader.join(timeout=30)
        return "".join(self._output)

    def outcome(self) -> Outcome:
        """Waits for the end. Raises SystemExit if the command fails."""
        output = self.wait()
        if self.status != 0:
            raise SystemExit(f"ended with {self.status}:\n{self._last()}")
        return Outcome(json.loads(output), self.told, time.monotonic() - self._began)

    @staticmethod
    def _start(command: Sequence[str], environment: Mapping[str, str]) -> Any:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=dict(environment))

    def _last(self) -> str:
        return "".join(self._told[-60:])

    def _read_errors(self) -> None:
        for line in self._process.stderr:
            self._told.append(line)
            self.scene.lines.append(line)

    def _read_output(self) -> None:
        self._output += self._process.stdout


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)
