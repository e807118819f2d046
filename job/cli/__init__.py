"""The verbs a person types; no logic."""

from __future__ import annotations

import errno
import sys
import tempfile

import click

from job.cli import models, plan, rayjobs, runs
from job.cli.group import thaw
from job.errors import ThawError, exit_code_of
from job.libraries import DEBUG

__all__ = ["main", "models", "plan", "rayjobs", "runs", "thaw"]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3"}
LOUD = {DEBUG: "1", "TF_CPP_MIN_LOG_LEVEL": "0", "ABSL_MIN_LOG_LEVEL": "0", "RAY_BACKEND_LOG_LEVEL": "info"}
"""Variables of this process and those that it starts, the training workers among them; what a person has set stays."""


def main() -> None:
    """Runs the command line; every error that a user can meet is one or two sentences and an exit code."""
    import os

    debug = "--debug" in sys.argv
    for name, value in (LOUD if debug else QUIET).items():
        os.environ.setdefault(name, value)
    try:
        thaw()
    except ThawError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            click.echo(f"thaw: {line}", err=True)
        sys.exit(exit_code_of(error))
    except OSError as error:
        if debug:
            raise
        where = error.filename or tempfile.gettempdir()
        room = ": make room, or set TMPDIR" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        click.echo(f"thaw: {where}: {error.strerror or error}{room}.", err=True)
        sys.exit(exit_code_of(error))
