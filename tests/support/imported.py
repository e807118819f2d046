"""What command lines import: asked of a process of its own, because the tests' has imported nearly everything."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

HEAVY = {"tensorflow", "keras", "ray", "boto3", "kubernetes", "mlflow", "starlette", "uvicorn"}
CODE = """
import io, json, sys
from contextlib import redirect_stdout
from job.cli import thaw

found, before = [], set()
for words in json.loads(sys.argv[1]):
    output = io.StringIO()
    with redirect_stdout(output):
        try:
            thaw(words)
        except SystemExit as end:
            ended = str(end.code or 0)
        except Exception as error:
            ended = repr(error)
    found.append((ended, output.getvalue(), sorted(set(sys.modules) - before)))
    before = set(sys.modules)
json.dump(found, sys.stdout)
"""


class Called(NamedTuple):
    ended: str
    """The exit code, or the exception."""
    output: str
    imported: set[str]
    """Of HEAVY; of several command lines in one process, what those before it had not imported."""


def called_in_new_process(*commands: list[str]) -> list[Called]:
    """These command lines, one after another in one process."""
    command = [sys.executable, "-c", CODE, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Called(ended, output, HEAVY & set(names)) for ended, output, names in json.loads(done.stdout)]
