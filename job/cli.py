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
from job.errors import JobError, ThawError, exit_code_of


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thaw")
def thaw() -> None:
    """Transfer learning as a job: freeze, train a head, checkpoint, resume, thaw, fine-tune.

    Exit codes: 0 done; 2 the job file or the command line; 3 the data; 4 storage, network, or another attempt has the
    run; 5 training; 6 the cluster; 143 stopped by SIGTERM.
    """


overrides = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting of the job file."
)
overlay = click.option(
    "--overlay",
    default="local",
    show_default=True,
    help="local, aws, gcp; a folder with a kustomization.yaml; or a file that kustomize built.",
)
image = click.option("--image", help="The image of every container.  [default: the overlay's]")
context = click.option("--context", help="The cluster, by its name in KUBECONFIG.  [default: the current one]")
namespace = click.option("-n", "--namespace", help="[default: the overlay's]")
where = click.option("-n", "--namespace", help="Of the RayJob.  [default: thaw]")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
debug = click.option("--debug", is_flag=True, help="Show tracebacks, and the logs of TensorFlow and Ray.")


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@click.option("--phase", type=click.Choice(["all", "head", "fine_tune"]), default="all", show_default=True)
@click.option("--new", is_flag=True, help="Start another run, even though there is one of the same thing.")
@as_json
@debug
def run(job: str, overrides: tuple[str, ...], phase: str, new: bool, as_json: bool, debug: bool) -> None:
    """Run JOB, or continue its run: the same job on the same data is the same run.

    JOB is a YAML file, or a folder of them, which are merged in the order of their names.
    """
    from job.deploy.progress import reported
    from job.jobfile import load_job
    from job.run.interrupt import Interrupts
    from job.run.pipeline import run_job

    interrupts = Interrupts()
    with reported(_narrator(), interrupts.ask) as say:
        result = run_job(load_job(job, overrides), phase, say, debug, new, interrupts)
    _finish(result, as_json)


@thaw.command()
@click.argument("job", type=click.Path())
@overlay
@overrides
@image
@namespace
@debug
def render(
    job: str, overlay: str, overrides: tuple[str, ...], image: str | None, namespace: str | None, debug: bool
) -> None:
    """Print the ConfigMap and the RayJob that `thaw submit` would create, as YAML.

    They are named after the run, so the source is listed for it, and the snapshot written, as `thaw run` does.
    """
    from job.deploy.manifest import as_yaml
    from job.deploy.submit import Options
    from job.deploy.submit import render as rendered
    from job.jobfile import load_job

    options = Options(overlay, image, namespace)
    click.echo(as_yaml(rendered(load_job(job, overrides), options, _narrator())), nl=False)


@thaw.command()
@click.argument("job", type=click.Path())
@overlay
@overrides
@image
@click.option("--new", is_flag=True, help="Start another run, even though there is one of the same thing.")
@click.option("--follow", is_flag=True, help="Tell how it goes on until it ends, and exit with its exit code.")
@namespace
@context
@as_json
@debug
def submit(
    job: str,
    overlay: str,
    overrides: tuple[str, ...],
    image: str | None,
    new: bool,
    follow: bool,
    namespace: str | None,
    context: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Run JOB as a RayJob in a Kubernetes cluster; submitting the same thing twice is one RayJob.

    The overlay must have been applied (kubectl apply -k). Its RayJob is taken, with the name, the job file, the number
    of workers and the image of this run. How far it is, `thaw status` tells, and kubectl with the columns that are
    printed at the end. Ctrl-C ends --follow, not the job.
    """
    from job.deploy.submit import Options, describe_submitted, submit_and_follow
    from job.jobfile import load_job

    options = Options(overlay, image, namespace, context)

    def told(result: dict[str, Any]) -> None:
        click.echo("\n".join(describe_submitted(result, context)), err=as_json)

    result = submit_and_follow(load_job(job, overrides), options, _narrator(), told, new, follow)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    sys.exit(result.get("exit_code", 0))


@thaw.command("overlay")
@click.argument("cloud", type=click.Choice(["aws", "gcp"]))
@click.option("--into", type=click.Path(file_okay=False), help="[default: k8s/overlays/CLOUD/outputs]")
@debug
def write_overlay(cloud: str, into: str | None, debug: bool) -> None:
    """Write what Terraform made into the overlay: terraform output -json | thaw overlay aws

    URIs, the image's name, the queue, and the annotations that give pods their identity. It writes one file, or
    nothing, where an output is missing or is not what it should be.
    """
    from pathlib import Path

    from job.deploy.cloud import LARGEST, write_outputs

    folder = Path(into or f"k8s/overlays/{cloud}/outputs")
    click.echo(f"wrote {write_outputs(cloud, sys.stdin.buffer.read(LARGEST), folder)}")


@thaw.command()
@click.argument("watch_file", metavar="WATCH.yaml", type=click.Path())
@click.option("--until-empty", is_flag=True, help="End when the queue is empty, and all that came from it is covered.")
@debug
def watch(watch_file: str, until_empty: bool, debug: bool) -> None:
    """Turn the arrival of data, as a queue tells of it, into RayJobs: one for each state of the data.

    What is done and decided is told on standard output, a JSON document a line. It may be killed at any time: a message
    is deleted when the RayJob that covers it is there.
    """
    _need("watch", "prometheus_client", "google.cloud.pubsub_v1")
    from job.deploy.arrival.watch import watch as watch_queue

    watch_queue(watch_file, until_empty, sys.stdout)


@thaw.command()
@click.argument("job", type=click.Path())
@overlay
@overrides
@image
@click.option("--min-new", default=1, show_default=True, type=click.IntRange(min=0), help="New examples it takes.")
@click.option("--replace", "replaces", is_flag=True, help="Cancel a run of this job that is active on other data.")
@namespace
@context
@as_json
@debug
def trigger(
    job: str,
    overlay: str,
    overrides: tuple[str, ...],
    image: str | None,
    min_new: int,
    replaces: bool,
    namespace: str | None,
    context: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Decide once what `thaw watch` decides when data has arrived: a RayJob for JOB, or the reason why there is none.

    For cron, Argo Events, or a hand. It never starts two runs on the same data; while another run of JOB is active,
    it creates nothing.
    """
    from dataclasses import asdict

    from job.deploy.arrival.launch import describe_launched, launch
    from job.deploy.arrival.targets import make_target
    from job.deploy.submit import Options
    from job.jobfile import load_job

    options = Options(overlay, image, namespace, context)
    target = make_target(load_job(job, overrides), options, min_new, "replace" if replaces else "queue")
    done = launch(target, _narrator())
    click.echo("\n".join(describe_launched(done, target.api.namespace)), err=as_json)
    if as_json:
        click.echo(json.dumps({**asdict(done), "namespace": target.api.namespace}, indent=1))


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@debug
def prepare(job: str, overrides: tuple[str, ...], debug: bool) -> None:
    """Put the pretrained weights of JOB into its store, so that its runs can be named without TensorFlow."""
    from job.jobfile import load_job
    from job.run.identity import prepare_base
    from job.storage import open_store

    loaded = load_job(job, overrides)
    prepare_base(loaded, open_store(loaded.store), _narrator())


@thaw.command()
@click.argument("run")
@where
@context
@as_json
@debug
def status(run: str, namespace: str | None, context: str | None, as_json: bool, debug: bool) -> None:
    """Where RUN stands: a run by its URI (…/runs/<id>/), or a RayJob by its name.

    Of a run that someone works on, it is watched for up to 15 seconds whether they are alive; not so with --json.
    """
    from job.deploy.verbs import status_of
    from job.report.console import result_table

    found, lines = status_of(run, context, namespace, watch=not as_json)
    if as_json:
        return click.echo(json.dumps(found, indent=1))
    click.echo("\n".join(lines))
    if found.get("result"):
        _console(stderr=False).print(result_table(found["result"]))


@thaw.command()
@click.argument("run")
@where
@context
@debug
def cancel(run: str, namespace: str | None, context: str | None, debug: bool) -> None:
    """End RUN: a run by its URI (…/runs/<id>/), or a RayJob by its name. What is done is kept."""
    from job.deploy.verbs import cancel_either

    click.echo(cancel_either(run, context, namespace))


@thaw.command()
@click.argument("run")
@debug
def promote(run: str, debug: bool) -> None:
    """Put the model of RUN (…/runs/<id>/) into use, whatever its metrics. The one before it stays linked."""
    from job.run.current import current_key, job_name
    from job.run.current import promote as promoted
    from job.run.status import open_run

    store, id = open_run(run)
    current = promoted(store, id)
    click.echo(f"{current.entry.model}\nis in use: {store.uri}{current_key(job_name(store, id))}")


@thaw.command()
@click.argument("job")
@debug
def rollback(job: str, debug: bool) -> None:
    """Put the model before the current one into use again, by one write.

    JOB is a job file (or a folder of them), or …/jobs/<name>/ in the store.
    """
    from job.deploy.verbs import rollback_of

    click.echo(rollback_of(job))


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
@click.argument("what")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: for everybody who reaches this machine.")
@click.option("--port", default=6006, show_default=True, type=click.IntRange(0, 65535))
@debug
def tensorboard(what: str, host: str, port: int, debug: bool) -> None:
    """Serve TensorBoard over WHAT: a run or a store by its URI, or the store of a job file (or a folder of them)."""
    from job.jobfile import load_job
    from job.report.board import serve

    uri = what if "://" in what else load_job(what, ()).store
    serve(uri, host, port, lambda line: click.echo(f"thaw: {line}", err=True))


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
        sys.exit(exit_code_of(error))
    except OSError as error:
        if debug:
            raise
        where = error.filename or tempfile.gettempdir()
        room = ": make room, or set TMPDIR" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        click.echo(f"thaw: {where}: {error.strerror or error}{room}.", err=True)
        sys.exit(exit_code_of(error))


def _finish(result: dict[str, Any], as_json: bool, published: tuple[str, float] | None = None) -> None:
    from job.report.console import result_table

    console = _console(stderr=True)
    if result["model"] or result["state"] == "head":
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


def _need(extra: str, *modules: str) -> None:
    """Raises JobError where what only this verb needs is not installed."""
    from importlib.util import find_spec

    try:
        missing = [module for module in modules if find_spec(module) is None]
    except ModuleNotFoundError as error:  # the package that the module is in
        missing = [str(error.name)]
    if missing:
        raise JobError(f"{missing[0]} is not installed: pip install 'thaw[{extra}]'.")


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
