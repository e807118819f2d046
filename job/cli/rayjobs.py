"""Runs in a Kubernetes cluster, by hand or because data has arrived."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from job.cli.group import as_json, context, debug, image, log, namespace, overlay, overrides, thaw
from job.cli.telling import narrator, need


@thaw.command()
@click.argument("job", type=click.Path())
@overlay
@overrides
@image
@namespace
@debug
def render(
    job: str, overlay: str, overrides: tuple[str, ...], *, image: str | None, namespace: str | None, debug: bool
) -> None:
    """Print the ConfigMap and the RayJob that `thaw submit` would create, as YAML.

    They are named after the run, so the source is listed for it, and the snapshot written, as `thaw run` does.
    """
    from job.config.jobfile import load_job
    from job.deploy.manifest import as_yaml
    from job.deploy.submit import Options
    from job.deploy.submit import render as rendered

    options = Options(overlay, image, namespace)
    click.echo(as_yaml(rendered(load_job(job, overrides), options, narrator().emit)), nl=False)


@thaw.command()
@click.argument("job", type=click.Path())
@overlay
@overrides
@image
@click.option("--new", is_flag=True, help="Start another run, even though there is one of the same thing.")
@click.option("--follow", is_flag=True, help="Tell how it goes on until it ends, and exit with its exit code.")
@namespace
@context
@log
@as_json
@debug
def submit(
    job: str,
    overlay: str,
    overrides: tuple[str, ...],
    *,
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
    from job.config.jobfile import load_job
    from job.deploy.submit import Options, describe_submitted, follow_submitted
    from job.deploy.submit import submit as submit_job

    options, emit = Options(overlay, image, namespace, context), narrator().emit
    submitted = submit_job(load_job(job, overrides), options, emit, new=new)
    click.echo("\n".join(describe_submitted(submitted, context)), err=as_json)
    code = follow_submitted(submitted, options, emit) if follow else None
    if as_json:
        click.echo(json.dumps(asdict(submitted) | ({} if code is None else {"exit_code": code}), indent=1))
    sys.exit(code or 0)


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
    need("watch", "prometheus_client", "google.cloud.pubsub_v1")
    from job.arrival.watch import watch as watch_queue

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
    *,
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
    from job.arrival.launch import describe_launched, launch
    from job.arrival.targets import make_target
    from job.config.jobfile import load_job
    from job.deploy.submit import Options

    options = Options(overlay, image, namespace, context)
    target = make_target(load_job(job, overrides), options, min_new, concurrency="replace" if replaces else "queue")
    done = launch(target, narrator().emit)
    click.echo("\n".join(describe_launched(done, target.api.namespace)), err=as_json)
    if as_json:
        click.echo(json.dumps({**asdict(done), "namespace": target.api.namespace}, indent=1))
