"""Connects to the Ray cluster that RAY_ADDRESS names, or starts Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any

from job.config import Job
from job.errors import ClusterError, ThawError, headline
from job.executors.placement import cpus_here, is_here, with_workers, worker_cpus
from job.executors.ray.folder import ensure_home, own_token, ray_folder
from job.executors.ray.quiet import WithoutRetries, no_last_word
from job.libraries import HUGE_PAGES, TUNABLES, no_stderr
from job.run.events import Announced, Emit, Warned
from job.run.fake_gpu import fake_environment
from job.run.proxies import bypass_proxies, configured_proxies

ENVIRONMENT = {
    TUNABLES: HUGE_PAGES,
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # `report` waits for the controller's next poll, 2 s by default
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


STARTS = 3
"""The number of attempts to start Ray."""


def set_environment() -> None:
    """Sets the environment of the processes that this one starts, except for variables that are set already. Processes
    of this machine, and the cluster's head, are reached without a proxy.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ensure_home()
    if configured_proxies():
        from ray.util import get_node_ip_address

        bypass_proxies([socket.gethostname(), get_node_ip_address(), _head()[0]])


@contextmanager
def ray_cluster(job: Job, debug: bool = False, emit: Emit | None = None) -> Iterator[None]:
    """Connects to Ray, or starts it here and ends it afterwards. Raises ClusterError."""
    set_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    if emit is not None:
        emit(Announced("starting Ray" if is_here() else f"connecting to Ray at {os.environ['RAY_ADDRESS']}"))
    level = logging.INFO if debug else logging.ERROR
    settings: dict[str, Any] = {"log_to_driver": debug, "logging_level": level, "configure_logging": True}
    if faked := fake_environment(job):
        settings["runtime_env"] = {"env_vars": faked}
    with ExitStack() as stack:
        if address := os.environ.get("RAY_ADDRESS"):
            _check_reachable(address)
        else:
            # Two logical CPUs more than the workers need: Ray Data's tasks must never wait for a training worker's.
            cpus = max(cpus_here(), worker_cpus(job) * job.scaling.max_workers) + 2
            settings |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
            settings["_temp_dir"] = stack.enter_context(ray_folder())
            if faked:
                settings["num_gpus"] = job.scaling.max_workers
            own_token()
        _start(settings, debug, emit or (lambda event: None))
        # Ray prints messages about lost processes and nodes, even at its end; standard output is for the result alone.
        stack.enter_context(redirect_stdout(sys.stderr if debug else WithoutRetries(sys.stderr)))
        stack.callback(ray.shutdown)
        _set_up_libraries(debug)
        _check_gpus(job)
        yield


def _start(settings: dict[str, Any], debug: bool, emit: Emit) -> None:
    """Starts Ray, or connects to it. Tries again where a busy machine takes longer than Ray waits. Raises
    ClusterError.
    """
    import ray

    for left in reversed(range(STARTS)):
        try:
            quiet = nullcontext() if debug else no_stderr()  # its core prints a line about the log level
            with _own_sigterm(), no_last_word(), quiet:
                ray.init(**settings)
            return
        except ThawError:  # the run was interrupted
            raise
        except Exception as error:  # where a node takes too long to start, Ray raises nothing more special
            where = os.environ.get("RAY_ADDRESS", "this machine")
            if not left:
                problem = f"Ray can't be reached or started at {where}, in {STARTS} tries: {headline(error)}"
                raise ClusterError(f"{problem} (--debug shows its logs).") from error
            with suppress(Exception):
                ray.shutdown()
            emit(Warned(f"Ray did not start at {where} ({headline(error)}): trying again"))


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps our handler of SIGTERM, which Ray replaces by its own."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str) -> None:
    """Raises ClusterError where nobody answers at the address. Ray itself would try for minutes without a message."""
    host, port = _head()
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"Nobody answers at {address} ({error}): check RAY_ADDRESS, and that the cluster's head is up; "
            "unset it to run on this machine alone."
        ) from error


def _head() -> tuple[str, str]:
    """The host and the port of the head in RAY_ADDRESS; empty where it is not set, `auto` or `local`."""
    host, separator, port = os.environ.get("RAY_ADDRESS", "").rpartition("://")[2].rpartition(":")
    return (host.strip("[]"), port) if separator and port.isdigit() else ("", "")


def _check_gpus(job: Job) -> None:
    """Raises ClusterError where this machine has too few GPUs, since waiting would never end. A cluster may add
    nodes.
    """
    import ray

    available, needed = int(ray.cluster_resources().get("GPU", 0)), job.scaling.min_workers
    if job.scaling.gpu and is_here() and available < needed:
        raise ClusterError(
            f"scaling.gpu: true needs a GPU for each of {needed} workers, and Ray finds {available} on this machine: "
            "set scaling.gpu: false or fewer scaling.workers, or RAY_ADDRESS to a cluster that has them."
        )


def _set_up_libraries(debug: bool) -> None:
    """Configures Ray's libraries and their logs. They are imported first, since importing sets up their logs."""
    import ray.data
    import ray.train
    from ray.util.annotations import RayDeprecationWarning

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    # `ray_remote_args_fn` is the only way to limit how often Ray Data replaces an actor.
    warnings.filterwarnings("ignore", message=".*ray_remote_args_fn", category=RayDeprecationWarning)
    if not debug:
        for name, level in (("ray", logging.ERROR), ("ray.train", logging.ERROR), ("ray.data", logging.CRITICAL)):
            logging.getLogger(name).setLevel(level)  # what Ray Data logs as an error is raised as well


def placed_there(job: Job, debug: bool, emit: Emit) -> Job:
    """The job with `scaling.workers: auto` resolved on the cluster that RAY_ADDRESS names: a worker for each GPU,
    or for each node with CPUs, with the cores of the smallest node. One worker where no such node has joined yet.
    """
    import ray

    with ray_cluster(with_workers(job, "ray", 1), debug, emit):
        if job.scaling.gpu:
            return with_workers(job, "ray", max(1, int(ray.cluster_resources().get("GPU", 0))))
        cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        cores = [int(count) for count in cores if count >= 1]
        return with_workers(job, "ray", max(1, len(cores)), cpus=min(cores, default=1))


def room(job: Job) -> int:
    """The number of runs of this job that the cluster has room for now; 1 on this machine."""
    if is_here():
        return 1
    import ray

    with ray_cluster(job):
        kind, each = ("GPU", 1) if job.scaling.gpu else ("CPU", worker_cpus(job))
        return max(1, int(ray.cluster_resources().get(kind, 0) // (each * job.scaling.max_workers)))


def extract_processes(job: Job) -> tuple[int | None, int]:
    """The most decoders (None: as many as find room) and the most featurizers of the extract stage.

    On this machine, one network has all cores. On a cluster, there is one network for each worker. The number of its
    CPUs is not known in advance, since nodes may join on demand.
    """
    if is_here():
        return max(1, cpus_here() // 2), 1
    return None, job.scaling.max_workers
