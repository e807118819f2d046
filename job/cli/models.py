"""Models: which is in use, and what one answers."""

from __future__ import annotations

import json

import click

from job.cli.group import as_json, debug, overrides, thaw
from job.cli.telling import console, narrator


@thaw.command()
@click.argument("model")
@click.argument("files", nargs=-1, required=True)
@as_json
@debug
def predict(model: str, files: tuple[str, ...], *, as_json: bool, debug: bool) -> None:
    """Labels and probabilities of FILES from the exported MODEL (a URI or a path)."""
    from job.export.predict import check_all_answered
    from job.export.predict import predict as predictions
    from job.telemetry.console import prediction_table

    records = list(predictions(model, list(files)))
    if as_json:
        click.echo(json.dumps(records, indent=1))
    else:
        console(stderr=False).print(prediction_table(records))
    check_all_answered(records)


@thaw.command()
@click.argument("run")
@click.option("--format", "formats", multiple=True, required=True, help="tflite_float16, tflite_int8 or onnx.")
@click.option("--out", help="A folder or URI.  [default: beside the run's model]")
@as_json
@debug
def export(run: str, formats: tuple[str, ...], out: str | None, *, as_json: bool, debug: bool) -> None:
    """Write the model of RUN (…/runs/<id>/) in other formats, each compared with it on the run's examples first."""
    from job.export.further import export_run

    with narrator() as terminal:
        uris = export_run(run, formats, out, emit=terminal.emit, debug=debug)
    click.echo(json.dumps(uris, indent=1) if as_json else "\n".join(uris.values()))


@thaw.command()
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: for everybody who reaches this machine.")
@click.option("--port", default=8300, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@debug
def serve(model: str, host: str, port: int, *, debug: bool) -> None:
    """Serve a page that asks MODEL (a URI or a path): drop a picture, or type a text, and see its probabilities."""
    from job.serving.server import serve as serve_model

    serve_model(model, host, port, say=lambda line: click.echo(f"thaw: {line}", err=True))


@thaw.command()
@click.argument("run")
@debug
def promote(run: str, debug: bool) -> None:
    """Put the model of RUN (…/runs/<id>/) into use, whatever its metrics. The one before it stays linked."""
    from job.registry.current import current_key, job_name
    from job.registry.current import promote as promoted
    from job.run.run import open_run

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
    from job.registry.current import rollback_of

    click.echo(rollback_of(job))


@thaw.command()
@click.argument("job", type=click.Path())
@overrides
@debug
def prepare(job: str, overrides: tuple[str, ...], debug: bool) -> None:
    """Put the pretrained weights of JOB into its store, so that its runs can be named without TensorFlow."""
    from job.config.jobfile import load_job
    from job.run.identity import prepare_base
    from job.storage import open_store

    loaded = load_job(job, overrides)
    with narrator() as terminal:
        prepare_base(loaded, open_store(loaded.store, loaded.storage), terminal.emit)
