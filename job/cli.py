"""The verbs a person types."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
import sys
import tempfile
from typing import Any

import click

from job import __version__
from job.errors import StorageError, ThawError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thaw")
def thaw() -> None:
    """Transfer learning as a job: freeze, train a head, checkpoint, resume, thaw, fine-tune.

    Exit codes: 0 done; 2 the job file or the command line; 3 the data; 4 storage, network, or another attempt has the
    run; 5 training; 6 the cluster; 143 stopped by SIGTERM.
    """


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
debug = click.option("--debug", is_flag=True, help="Show tracebacks, and the logs of TensorFlow and Ray.")


@thaw.command()
@click.argument("job", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting of the job file.")
@click.option("--phase", type=click.Choice(["all", "head", "fine_tune"]), default="all", show_default=True)
@click.option("--new", is_flag=True, help="Start another run, even though there is one of the same thing.")
@as_json
@debug
def run(job: str, overrides: tuple[str, ...], phase: str, new: bool, as_json: bool, debug: bool) -> None:
    """Run JOB, or continue its run: the same job on the same data is the same run."""
    from job.jobfile import load_job
    from job.run.pipeline import run_job

    _finish(run_job(load_job(job, overrides), phase, _narrator(), debug, new), as_json)


@thaw.command()
@click.option("--out", default=".demo", show_default=True, help="Folder for the photographs and the store.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1))
@as_json
@debug
def demo(out: str, workers: int, as_json: bool, debug: bool) -> None:
    """The main job on 2,624 real photographs, from nothing, on this machine."""
    from job.run.demo import PUBLISHED, run_demo

    _finish(run_demo(out, workers, _narrator(), debug), as_json, PUBLISHED)


@thaw.command()
@click.argument("model")
@click.argument("files", nargs=-1, required=True)
@as_json
@debug
def predict(model: str, files: tuple[str, ...], as_json: bool, debug: bool) -> None:
    """Labels and probabilities of FILES from the exported MODEL (a URI or a path)."""
    from job.report.console import prediction_table
    from job.report.predict import check_all_answered
    from job.report.predict import predict as predictions
    from job.run.quiet import no_stderr

    with no_stderr():
        import tensorflow  # noqa: F401
    records = list(predictions(model, list(files)))
    if as_json:
        click.echo(json.dumps(records, indent=1))
    else:
        _console(stderr=False).print(prediction_table(records))
    check_all_answered(records)


@thaw.command()
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(min=0), help="How long to wait.")
def drain(seconds: float) -> None:
    """Before this pod ends: let its run keep a checkpoint (what a preStop hook calls)."""
    from job.run.drain import drain as drain_here

    if not drain_here(seconds):
        click.echo(f"thaw: after {seconds:g} s the run is still at work here.", err=True)


@thaw.command()
def schema() -> None:
    """The job file's JSON schema, for editors."""
    from job.config import job_schema

    click.echo(json.dumps(job_schema(), indent=1))


def main() -> None:
    """Runs the command line; every error that a user can meet is one or two sentences and an exit code."""
    import os

    debug = "--debug" in sys.argv
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    try:
        thaw()
    except ThawError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            click.echo(f"thaw: {line}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        where = error.filename or tempfile.gettempdir()
        room = ": make room, or set TMPDIR" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        click.echo(f"thaw: {where}: {error.strerror or error}{room}.", err=True)
        sys.exit(StorageError.exit_code)


def _finish(result: dict[str, Any], as_json: bool, published: tuple[str, float] | None = None) -> None:
    from job.report.console import result_table

    console = _console(stderr=True)
    console.print()
    console.print(result_table(result, published))
    console.print(f"\nrun    {result['run']}", highlight=False, soft_wrap=True)
    if result["model"]:
        console.print(f"model  {result['model']}", highlight=False, soft_wrap=True)
        command = [_own_name(), "predict", result["model"]]
        image = shlex.quote(result["image"]) if "image" in result else "IMAGE…"
        console.print(f"\nClassify an image:\n  {shlex.join(command)} {image}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(result, indent=1))


def _own_name() -> str:
    """What the user has to type: the path, where `thaw` alone would not be found."""
    return "thaw" if shutil.which("thaw") else sys.argv[0]


def _console(stderr: bool) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal:  # a log or a pipe: nothing is folded or cut to 80 columns
        console.width = 4096
    return console


def _narrator() -> Any:
    from job.report.console import Narrator

    return Narrator(_console(stderr=True))
