"""Nodes that are lost and that join while a run trains: the same batches, whatever the number of workers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kills import Outcome, Scene, Watched, descendants, run_with_kills, strike
from prepared import prepare_run

pytestmark = pytest.mark.slow
JOB = """
name: elastic
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 1000, learning_rate: 1e-4, patience: 1000}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 5, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 16}}
scaling: {{workers: {{min: 1, max: 2}}, cpus_per_worker: 2}}
checkpoint: {{every_steps: 50, every_minutes: null}}
"""


class Node:
    """A node of a Ray cluster: a process, and all that it starts."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        command = [str(Path(sys.executable).parent / "ray"), "start", *words, "--block", "--disable-usage-stats"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def lose(self) -> None:
        """As the power does."""
        for process in [self.process.pid, *descendants(self.process.pid)]:
            os.kill(process, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[dict[str, str], Callable[[], Node]]]:
    """Environment of a cluster whose head has room for one worker, and a way to add a node for another."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment["RAY_TMPDIR"] = f"/tmp/ray-{port}"  # a longer name would not do for its sockets
    address = f"127.0.0.1:{port}"
    here = ("--node-ip-address=127.0.0.1", "--object-store-memory=200000000")
    head = Node(environment, "--head", f"--port={port}", "--num-cpus=3", "--include-dashboard=false", *here)
    nodes = [head]

    def add() -> Node:
        nodes.append(Node(environment, f"--address={address}", "--num-cpus=2", *here))
        return nodes[-1]

    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.2)
    yield {**environment, "RAY_ADDRESS": address}, add
    for node in nodes:
        if node.process.poll() is None:
            node.lose()
    shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)


def curves(done: Outcome) -> dict[str, list[list[float]]]:
    run = Path(done.result["run"].removeprefix("file://"))
    history = json.loads((run / "training.json").read_text())["history"]
    names = ("loss", "validation_loss")
    return {phase: [[e[n] for n in names if n in e] for e in epochs] for phase, epochs in history.items()}


def digests(done: Outcome) -> set[str]:
    run = Path(done.result["run"].removeprefix("file://"))
    history = json.loads((run / "training.json").read_text())["history"]
    return {epoch["digest"] for epochs in history.values() for epoch in epochs if "digest" in epoch}


def test_two_workers_then_one_then_two_have_the_loss_curve_of_two(
    cluster: tuple[dict[str, str], Callable[[], Node]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment, add = cluster
    second = add()
    time.sleep(5)
    scene = Scene(tmp_path / "store")
    process = Watched(prepare_run(tmp_path, JOB), scene, environment)
    try:
        groups = []
        for workers in (2, 1, 2):
            words = f"training on {workers} worker"
            groups.append(words)
            wait(process, lambda: scene.said(words))  # noqa: B023
            told = next(line for line in scene.lines if words in line)
            assert ("from the start" if len(groups) == 1 else "resumed from head epoch") in told
            epoch = max((entry["epoch"] for entry in scene.checkpoints()), default=0)
            wait(process, lambda: scene.reached("head", epoch + 40))  # noqa: B023
            scene.lines.clear()
            if len(groups) == 1:
                second.lose()
            elif len(groups) == 2:
                add()
        output = process.wait()
    finally:
        if process.status is None:
            strike("machine", process.pid)
    assert process.status == 0, "".join(process.told)
    done = Outcome(json.loads(output), 1, 0.0, groups, process.told)
    alone = tmp_path_factory.mktemp("undisturbed")
    undisturbed = run_with_kills(prepare_run(alone, JOB), alone / "store", [])
    mine, theirs = curves(done), curves(undisturbed)
    for phase in ("head", "fine_tune"):
        assert len(mine[phase]) == len(theirs[phase])
        for ours, others in zip(mine[phase], theirs[phase], strict=True):
            np.testing.assert_allclose(ours, others, rtol=1e-3)
    assert len(digests(done)) == 1, "each epoch saw each example once"


def wait(process: Watched, moment: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not moment():
        assert process.status is None, "".join(process.told)
        assert time.monotonic() < until, "".join(process.told)
        time.sleep(0.01)
