"""A run that reaches its limit again and again, each time a little later, ends with the same bytes as one without."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kills import Outcome

from job.run.budget import KEEPING
from support.killed import JOB
from support.prepared import prepare_run

ATTEMPTS = 20


def attempted(command: list[str], *limits: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *limits], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["", "scaling: {{workers: 2}}\n"], ids=["embedded", "on Ray"])
def test_a_run_goes_on_when_its_limit_is_raised(scaling: str, tmp_path: Path) -> None:
    for name in ("undisturbed", "limited"):
        (tmp_path / name).mkdir()
    plain = attempted(prepare_run(tmp_path / "undisturbed", JOB + scaling))
    command, told, stops = prepare_run(tmp_path / "limited", JOB + scaling), "", 0
    for attempt in range(ATTEMPTS):
        seconds = 8 + 3 * attempt + (8 if scaling else 0)
        deadline = datetime.now(UTC) + timedelta(seconds=KEEPING + seconds)
        began = time.monotonic()
        done = attempted(command, "--set", f"limits.deadline={deadline.isoformat()}")
        told += done.stderr
        if done.returncode == 0:
            break
        stops += 1
        assert done.returncode == 7, done.stderr
        assert re.search(r"thaw: limits.deadline: .* UTC .*: what is done is kept, and running again", done.stderr)
        assert time.monotonic() - began < KEEPING + seconds, "before its limit"
    assert stops >= 2
    assert "resumed from" in told, "it was stopped while it trained, too"
    outcomes = [Outcome(json.loads(one.stdout), "", 0.0) for one in (plain, done)]
    assert outcomes[0].weights == outcomes[1].weights
    assert len(outcomes[0].digests) == len(outcomes[1].digests) == 48, "each epoch proves what it has seen"


@pytest.mark.slow
def test_hours_are_those_of_all_attempts(tmp_path: Path) -> None:
    command = prepare_run(tmp_path, JOB)
    for _ in range(2):
        done = attempted(command, "--set", f"limits.hours={(KEEPING + 9) / 3600}")
        assert done.returncode == 7, done.stderr
        assert "limits.hours: " in done.stderr
    assert "training on" not in done.stderr, "what one attempt has taken is gone: nothing is begun"
    assert attempted(command, "--set", "limits.hours=1").returncode == 0
