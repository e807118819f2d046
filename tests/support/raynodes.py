"""A Ray cluster of processes of this machine: nodes that join, drain and are lost."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kills import strike

from support.servers import free_port

RAY = str(Path(sys.executable).parent / "ray")
HERE = ("--node-ip-address=127.0.0.1", "--object-store-memory=200000000", "--disable-usage-stats", "--block")
LOOKING = """
import json, time, ray

ray.init(log_to_driver=False, logging_level="error")
while True:
    free = ray.available_resources().get("GPU", 0.0)
    print(json.dumps([time.time(), free]), flush=True)
    time.sleep(0.2)
"""


class Node:
    """A process, and all that it starts."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self._environment = environment
        self.process = subprocess.Popen(
            [RAY, "start", *HERE, *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def drain(self, seconds: float) -> subprocess.Popen[bytes]:
        """Gives notice, as a pod does that is about to end; exit code 0 once nothing works here any more."""
        code = f"import sys; from job.run.drain import drain; sys.exit(not drain({seconds}, {self.process.pid}))"
        return subprocess.Popen([sys.executable, "-c", code], env=self._environment)

    def lose(self) -> None:
        """As the power does."""
        strike("machine", self.process.pid)
        self.process.wait()


class Cluster:
    def __init__(self, head: tuple[str, ...], environment: dict[str, str]) -> None:
        port = free_port()
        address = f"127.0.0.1:{port}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.folder = f"/tmp/ray-{port}"  # a longer name would not do for its sockets
        self._of_nodes = {**os.environ, **token, "RAY_TMPDIR": self.folder, **environment}
        self.environment = {**self._of_nodes, "RAY_ADDRESS": address}
        """For what connects to it."""
        self.nodes = [Node(self._of_nodes, "--head", f"--port={port}", "--include-dashboard=false", *head)]
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)

    def add(self, *words: str) -> Node:
        """Another node, which joins a few seconds later."""
        self.nodes.append(Node(self._of_nodes, f"--address={self.environment['RAY_ADDRESS']}", *words))
        return self.nodes[-1]


@contextmanager
def ray_nodes(*head: str, environment: dict[str, str] | None = None) -> Iterator[Cluster]:
    """`head`: words for `ray start` of the first node."""
    cluster = Cluster(head, environment or {})
    try:
        yield cluster
    finally:
        for node in cluster.nodes:
            if node.process.poll() is None:
                node.lose()
        shutil.rmtree(cluster.folder, ignore_errors=True)


@contextmanager
def free_gpus(cluster: Cluster) -> Iterator[list[tuple[float, float]]]:
    """Times (UNIX, seconds), and the GPUs that were free then: a list that grows, a few times a second."""
    seen: list[tuple[float, float]] = []
    command = [sys.executable, "-c", LOOKING]
    process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines = process.stdout or ()
    reader = threading.Thread(
        target=lambda: seen.extend(tuple(json.loads(line)) for line in lines if line.startswith(b"[")), daemon=True
    )
    reader.start()
    try:
        yield seen
    finally:
        process.kill()
        reader.join(timeout=10)
