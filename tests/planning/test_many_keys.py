"""`thaw plan` on a million keys takes the memory that it takes on a thousand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import servers

KEYS = 1_000_000
FEW = 1000
MORE = 64 * 2**10
"""KiB that a million keys may take beyond what a thousand take."""
CODE = """
import resource, sys
from job.cli import thaw
try:
    thaw(["plan", sys.argv[1], "--no-calibration", "--json"])
except SystemExit as end:
    assert not end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server with these keys, filled in its own process."""
    port = servers.free_port()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    command = [sys.executable, "-m", "support.manykeys", str(port), str(KEYS)]
    with servers.answering(command, f"http://127.0.0.1:{port}/", 900):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        yield


@pytest.mark.slow
def test_a_million_keys_take_no_more_memory_than_a_thousand(many: None, tmp_path: Path) -> None:
    peaks = {}
    for folder, examples in (("few", FEW), ("all", KEYS - FEW)):
        (tmp_path / "job.yaml").write_text(
            f"name: many\ndata: {{source: 's3://many/{folder}/'}}\nstore: s3://many/store/\n"
            "model: {backbone: mobilenetv2, weights: none, image_size: 64}\n"
        )
        command = [sys.executable, "-c", CODE, str(tmp_path / "job.yaml")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["data"]["examples"] == examples
        assert found["data"]["rejects"]["sampled"] == 256
        peaks[folder] = int(done.stderr.splitlines()[-1])
    assert peaks["all"] < peaks["few"] + MORE
