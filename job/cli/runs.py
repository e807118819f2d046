"""A run, and where it stands."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

import click

from job.cli.group import as_json, context, debug, log, overrides, thaw, where
from job.cli.telling import console, finish, logs_json, narrator, own_command, screen

MOST_COMPARED = 26
"""Runs: each has a letter."""


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@click.option("--phase", type=click.Choice(["all", "head", "fine_tune"]), default="all", show_default=True)
@click.option("--new", is_flag=True, help="Start another run, even though there is one of the same thing.")
@log
@as_json
@debug
def run(job: str, overrides: tuple[str, ...], phase: str, *, new: bool, as_json: bool, debug: bool) -> None:
    """Run JOB, or continue its run: the same job on the same data is the same run.

    JOB is a YAML file, or a folder of them, which are merged in the order of their names.
    """
    from job.config.jobfile import load_job
    from job.deploy.progress import annotated
    from job.run.interrupts import Interrupts
    from job.telemetry.observed import run_observed

    interrupts = Interrupts()
    with narrator() as terminal, annotated(terminal.bus, interrupts.ask):
        loaded = load_job(job, overrides)
        outcome = run_observed(loaded, phase, terminal.emit, debug=debug, new=new, interrupts=interrupts)
    finish(outcome, as_json, terminal)


def _depths(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    depths = [int(part) if part.strip().isdecimal() else -1 for part in value.split(",")]
    if min(depths) < 0 or not max(depths):
        raise click.BadParameter(f"numbers of blocks with commas between them are needed, such as 0,1,2: got {value!r}")
    return depths


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@click.option(
    "--unfreeze",
    metavar="0,1,2",
    callback=_depths,
    default="0,1,2,3",
    show_default=True,
    help="Blocks to thaw, from the top.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of each depth.")
@click.option("--at-once", type=click.IntRange(min=1), help="Side by side, on Ray.  [default: what it has room for]")
@log
@as_json
@debug
def sweep(
    job: str,
    overrides: tuple[str, ...],
    unfreeze: list[int],
    *,
    seeds: int,
    at_once: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """How deep to thaw: JOB at several depths, as a table and a curve. One extraction serves all of them."""
    from job.config.jobfile import load_job
    from job.sweep import sweep as run_sweep
    from job.telemetry.console import sweep_table

    loaded = load_job(job, overrides)
    with narrator() as terminal:
        swept = run_sweep(loaded, unfreeze, seeds, at_once=at_once, emit=terminal.emit, debug=debug)
    console(stderr=True).print(sweep_table(swept.document.depths), f"\ncurve  {swept.uri}sweep.svg", highlight=False)
    if as_json:
        click.echo(json.dumps({"sweep": swept.uri, **asdict(swept.document)}, indent=1))


@thaw.command()
@click.option("--task", type=click.Choice(["image", "text"]), default="image", show_default=True)
@click.option("--out", help="Folder for the examples and the store.  [default: .demo; with --workers .demo-ray]")
@click.option("--workers", type=click.IntRange(min=2), help="That train side by side, on Ray.  [default: this process]")
@log
@as_json
@debug
def demo(task: str, out: str | None, workers: int | None, *, as_json: bool, debug: bool) -> None:
    """The main job on 2,624 real photographs, from nothing, on this machine; or on a few thousand texts."""
    from job.demo.fortunes import run_text_demo
    from job.demo.solar_cells import run_demo
    from job.run.events import Noted

    with narrator() as terminal:
        run = run_text_demo if task == "text" else run_demo
        outcome, extras = run(out or (".demo-ray" if workers else ".demo"), workers, terminal.emit, debug=debug)
    finish(outcome, as_json, terminal, demo=extras)
    if workers:
        return
    again = shlex.join([*own_command(), "demo", *(["--task", task] if task != "image" else []), "--workers", "2"])
    if logs_json():
        terminal.emit(Noted(f"the same on Ray, with two workers: {again}"))
    else:
        console(stderr=True).print(f"\nThe same on Ray, with two workers:\n  {again}", highlight=False, soft_wrap=True)


@thaw.command()
@click.argument("run")
@click.option("-w", "--watch", is_flag=True, help="Follow it until nobody works on it any more.")
@where
@context
@as_json
@debug
def status(run: str, watch: bool, namespace: str | None, *, context: str | None, as_json: bool, debug: bool) -> None:
    """Where RUN stands: a run by its URI (…/runs/<id>/), or a RayJob by its name.

    Of a run that someone works on, it is watched for up to 15 seconds whether they are alive; not so with --json.
    """
    from job.deploy.rayjob_status import status_of, watch_status
    from job.telemetry.console import result_table

    if watch:
        with screen(stderr=as_json) as show:
            current = watch_status(run, show, context=context, namespace=namespace)
    else:
        current, lines = status_of(run, context=context, namespace=namespace, watch=not as_json)
        if not as_json:
            click.echo("\n".join(lines))
    if as_json:
        click.echo(json.dumps(current.as_json(), indent=1))
    elif result := getattr(current, "result", None):  # a RayJob's is in the store
        console(stderr=False).print(result_table(result))


@thaw.command()
@click.argument("run")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the page to this file, and nothing to the store.")
@debug
def report(run: str, out: str | None, debug: bool) -> None:
    """The report of a finished RUN (…/runs/<id>/), one HTML page: made anew in the run's folder, or in a file.

    In the run's folder, the model card (report/card.md) and the run record (record.json) are made with it.
    """
    from pathlib import Path

    from job.evaluation.run_documents import read_documents
    from job.report.finished import page_of, write_report
    from job.run.run import open_run

    documents = read_documents(*open_run(run))
    if out is None:
        return click.echo(write_report(documents, lambda text: click.echo(f"thaw: {text}", err=True)))
    Path(out).write_text(page_of(documents), encoding="utf-8")
    click.echo(out)


@thaw.command()
@click.argument("run")
@click.option("--tracking-uri", help="[default: that of the run's job file, or MLFLOW_TRACKING_URI]")
@click.option("--experiment", help="[default: that of the run's job file, or the job's name]")
@click.option("--registered-model", help="[default: that of the run's job file, or none]")
@as_json
@debug
def mlflow(
    run: str,
    tracking_uri: str | None,
    experiment: str | None,
    *,
    registered_model: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Log a finished RUN (…/runs/<id>/) to MLflow, from its store alone, or complete what is logged of it."""
    from job.telemetry.logged import log_run
    from job.telemetry.mlflow.logger import web_page

    with narrator() as terminal:
        logged = log_run(run, tracking_uri, experiment, registered_model=registered_model, emit=terminal.emit)
    click.echo(json.dumps(asdict(logged), indent=1) if as_json else web_page(logged))


@thaw.command()
@click.argument("runs", metavar="RUN RUN…", nargs=-1, required=True)
@click.option("--out", metavar="FILE.html", type=click.Path(dir_okay=False), help="Also write a page, with examples.")
@as_json
@debug
def compare(runs: tuple[str, ...], out: str | None, as_json: bool, *, debug: bool) -> None:
    """Finished RUNs (…/runs/<id>/) beside each other: what differs in their jobs, metrics with intervals, and the test
    examples on which their models disagree. Gains are over the first one.
    """
    from pathlib import Path

    from job.evaluation import compare as comparing
    from job.evaluation.run_documents import read_documents
    from job.report.page.comparison import comparison_page, verdict
    from job.run.run import open_run
    from job.telemetry.console import compared_runs, compared_table, differences_table

    if not 2 <= len(runs) <= MOST_COMPARED:
        raise click.UsageError(f"compare takes 2 to {MOST_COMPARED} runs, got {len(runs)}.")
    compared = comparing.compare_runs([read_documents(*open_run(run)) for run in runs])
    document = comparing.comparison_document(compared)
    if out:
        Path(out).write_text(comparison_page(compared), encoding="utf-8")
    if as_json:
        return click.echo(json.dumps(asdict(document), indent=1))
    to = console(stderr=False)
    to.print(compared_runs(document), highlight=False, markup=False, soft_wrap=True)
    to.print(compared_table(document), "", differences_table(document), "", highlight=False)
    to.print(
        f"{verdict(compared)}\nThey disagree on {compared.disagree:,} of {compared.common:,} test examples"
        f"{f': {out}' if out else ' (--out FILE.html shows some, --json names them)'}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@thaw.command()
@click.argument("run")
@where
@context
@debug
def cancel(run: str, namespace: str | None, context: str | None, *, debug: bool) -> None:
    """End RUN: a run by its URI (…/runs/<id>/), or a RayJob by its name. What is done is kept."""
    from job.deploy.rayjob_status import cancel_either

    click.echo(cancel_either(run, context, namespace))


@thaw.command()
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(min=0), help="How long to wait.")
def drain(seconds: float) -> None:
    """Before this pod ends: let its run keep a checkpoint (what a preStop hook calls)."""
    from job.run.drain import drain as drain_here

    if not drain_here(seconds):
        click.echo(f"thaw: after {seconds:g} s the run is still at work here.", err=True)


@thaw.command()
@click.argument("what")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: for everybody who reaches this machine.")
@click.option("--port", default=6006, show_default=True, type=click.IntRange(0, 65535))
@debug
def tensorboard(what: str, host: str, port: int, *, debug: bool) -> None:
    """Serve TensorBoard over WHAT: a run (…/runs/<id>/), a store by its URI, or that of a job file (or a folder)."""
    from job.telemetry.board import serve
    from job.telemetry.status import open_runs

    serve(*open_runs(what), host=host, port=port, say=lambda line: click.echo(f"thaw: {line}", err=True))


@thaw.command()
@click.option("--of", type=click.Choice(["job", "record"]), default="job", show_default=True)
def schema(of: str) -> None:
    """The JSON schema of the job file, for editors; or of the run record, for registries."""
    from job.config import job_schema

    if of == "record":
        from job.report.record import record_schema

        return click.echo(json.dumps(record_schema(), indent=1))
    click.echo(json.dumps(job_schema(), indent=1))
