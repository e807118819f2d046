"""Where containers are strict: an unknown user, no home folder to write to, long paths, proxies that do not answer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.prepared import prepare_run
from support.tools import leave_out, need

JOB = """
name: strict
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases: {{head: {{epochs: 2, patience: 1}}, fine_tune: null}}
"""
READS = "+dac_read_search"
"""The one right of the user: the tests' own folders may be closed to all but root."""
NOBODY = ["setpriv", "--reuid=12345", "--regid=0", "--clear-groups"]
NOBODY += [f"--{kind}-caps=-all,{READS}" for kind in ("inh", "ambient")] + [f"--bounding-set=-all,{READS}"]


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for anybody; not pytest's, which is closed to others."""
    if os.getuid() != 0:
        leave_out("only root can be another user")
    need("setpriv")
    folder = Path(tempfile.mkdtemp(prefix="strict-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "home"),
    [
        pytest.param(1, "closed", id="embedded"),
        pytest.param(2, "closed", id="on Ray"),
        pytest.param(2, None, id="without HOME [on Ray]"),
    ],
)
def test_a_user_whom_nobody_knows_runs_a_job(workers: int, home: str | None, root: Path) -> None:
    command = prepare_run(root, f"{JOB}scaling: {{{{workers: {workers}}}}}\n")
    long = root / "/".join(["a folder of a long name"] * 5)
    for folder in (root / "store", long):
        folder.mkdir(parents=True)
    (root / "closed").mkdir(mode=0o555)
    for path in (root, *root.rglob("*")):
        if path.name != "closed":
            path.chmod(0o777)
    variables = {name: value for name, value in os.environ.items() if name not in ("HOME", "THAW_CACHE")}
    variables |= {"TMPDIR": str(long)} | ({"HOME": str(root / home)} if home else {})
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables |= {"http_proxy": proxy, "https_proxy": proxy}
        variables.pop("no_proxy", None)
        done = subprocess.run([*NOBODY, *command], env=variables, cwd="/", capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    assert list((root / "closed").iterdir()) == []
