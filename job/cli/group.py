"""The command, and the options that several verbs have."""

from __future__ import annotations

import click

from job import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thaw")
def thaw() -> None:
    """Transfer learning as a job: freeze, train a head, checkpoint, resume, thaw, fine-tune.

    Exit codes: 0 done; 2 the job file or the command line; 3 the data; 4 storage, network, or another attempt has the
    run; 5 training; 6 the cluster; 143 stopped by SIGTERM.
    """


LOG = "job.cli.log"
LOGS = ("auto", "text", "json")


def _keep_log(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[LOG] = value


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
log = click.option(
    "--log",
    type=click.Choice(LOGS),
    expose_value=False,
    callback=_keep_log,
    help="What standard error has: text, or a JSON document a line.  [default: THAW_LOG, or text on a terminal]",
)
