"""What TensorFlow and Ray print is kept back, but for who asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from job.libraries import DEBUG, no_stderr
from job.run.cluster import ENVIRONMENT

SHOW = """
import json, os, sys
from unittest import mock
sys.argv = ["thaw", "run", "job.yaml", *sys.argv[1:]]
from job import cli
def thaw():
    from job.run.cluster import set_environment
    from job.libraries import no_stderr
    set_environment()
    with no_stderr():
        os.write(2, b"TensorFlow's")
    print(json.dumps(dict(os.environ)))
with mock.patch.object(cli, "thaw", thaw):
    cli.main()
"""
LEVELS = ("TF_CPP_MIN_LOG_LEVEL", "RAY_BACKEND_LOG_LEVEL")


@pytest.mark.parametrize(
    ("words", "own", "levels", "shown"),
    [
        ([], {}, ("3", "fatal"), ""),
        (["--debug"], {}, ("0", "info"), "TensorFlow's"),
        ([], {"TF_CPP_MIN_LOG_LEVEL": "0"}, ("0", "fatal"), ""),
        (["--debug"], {"RAY_BACKEND_LOG_LEVEL": "debug"}, ("0", "debug"), "TensorFlow's"),
        (["--debug"], {"TF_CPP_MIN_LOG_LEVEL": "2"}, ("2", "info"), "TensorFlow's"),
    ],
)
def test_debug_brings_their_logs_back_and_what_a_person_has_set_stays(
    words: list[str], own: dict[str, str], levels: tuple[str, str], shown: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in (*ENVIRONMENT, DEBUG)} | own
    command = [sys.executable, "-c", SHOW, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert tuple(found[name] for name in LEVELS) == levels
    assert done.stderr == shown


def test_standard_error_is_back_after_an_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    with pytest.raises(OSError, match="bad"), no_stderr():  # noqa: PT012
        os.write(2, b"kept back")
        raise OSError("bad")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
