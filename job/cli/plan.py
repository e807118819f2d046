"""What a run would take."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from job.cli.group import as_json, debug, overrides, thaw
from job.cli.telling import console, narrator


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@click.option(
    "--calibration/--no-calibration",
    default=None,
    help="Measure this machine, for about 20 seconds, or never.  [default: where no run like it was finished]",
)
@click.option("--gpu", metavar="h100", help="Add what a model says of workers with such a GPU each.")
@click.option("--workers", type=click.IntRange(1), help="Of so many of them.  [default: scaling.workers]")
@as_json
@debug
def plan(
    job: str,
    overrides: tuple[str, ...],
    calibration: bool | None,
    *,
    gpu: str | None,
    workers: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """What `thaw run` JOB would read, store and compute, the time and the memory it takes, and what looks wrong.

    Changes nothing: not a byte is written to the store.
    """
    from job.config.jobfile import load_job
    from job.planning import Asked, forecast
    from job.planning.printed import print_forecast
    from job.planning.worker_kinds import GPUS

    if gpu is None and workers:
        raise click.UsageError("--workers is for a model of workers with GPUs: give --gpu as well, such as --gpu h100.")
    if gpu is not None and gpu not in GPUS:
        raise click.BadParameter(f"one of {', '.join(GPUS)} is needed, got {gpu!r}", param_hint="--gpu")
    with narrator() as terminal:
        document = forecast(load_job(job, overrides), terminal.emit, Asked(calibration, gpu, workers))
    if as_json:
        return click.echo(json.dumps(asdict(document), indent=1))
    print_forecast(console(stderr=False), document)
