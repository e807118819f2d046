"""Puts a RayJob into the cluster. Any step may be the last one: submitting again does what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from job.config import Job
from job.deploy.annotations import COLUMNS, RUN
from job.deploy.api import CONFIGMAPS, RAYJOBS, Api, Object, connect
from job.deploy.follow import follow
from job.deploy.manifest import fill, fitting_rayjob, images, namespace_of
from job.deploy.naming import name_run
from job.deploy.overlay import read_overlay
from job.deploy.refusals import Conflict, NotAllowed, Unreachable
from job.deploy.stages import exit_code
from job.errors import ClusterError
from job.run.events import Announced, Emit, Warned
from job.run.lease import reserve
from job.storage import open_store
from job.storage.run_keys import run_uri

ROUNDS = 5
"""Times that a step is done again where someone else undoes it."""


@dataclass(frozen=True)
class Options:
    """The options of `thaw render` and `thaw submit`."""

    overlay: str
    image: str | None = None
    namespace: str | None = None
    context: str | None = None


@dataclass(frozen=True)
class Submitted:
    state: str
    """`submitted`, `submitted already`, or `finished`."""
    name: str | None
    """The name of the RayJob; None, as the namespace, where nothing was created."""
    namespace: str | None
    run: str | None
    """The URI of the run, where it is known."""


class Applied(NamedTuple):
    rayjob: Object
    """As it is in the cluster."""
    fresh: bool
    """Whether it was created just now."""


def render(job: Job, options: Options, emit: Emit) -> list[Object]:
    """What `submit` would create."""
    shipped = fitting_rayjob(job, read_overlay(options.overlay), options.overlay)
    return list(fill(job, name_run(job, emit), shipped, image=options.image, namespace=options.namespace))


def submit(job: Job, options: Options, emit: Emit, *, new: bool = False) -> Submitted:
    """Creates the ConfigMap and the RayJob of this run, but for what is there already."""
    shipped = fitting_rayjob(job, read_overlay(options.overlay), options.overlay)
    api = connect(options.context, namespace_of(shipped, options.namespace))
    api.check()  # before the bucket is listed, which takes minutes
    naming = name_run(job, emit, new=new)
    if naming.finished is not None:
        return Submitted("finished", None, None, naming.finished)
    configmap, rayjob = fill(job, naming, shipped, image=options.image, namespace=options.namespace)
    store = open_store(job.store, job.storage)
    if new and naming.run is not None:  # the pods run `thaw run` without --new: they take the latest
        reserve(store, naming.run)
    created, is_new = apply(api, configmap, rayjob, emit=emit)
    run = created["metadata"].get("annotations", {}).get(RUN)
    return Submitted(
        state="submitted" if is_new else "submitted already",
        name=created["metadata"]["name"],
        namespace=api.namespace,
        run=run_uri(store, run) if run else None,
    )


def follow_submitted(submitted: Submitted, options: Options, emit: Emit) -> int | None:
    """Follows the RayJob to its end, and returns its exit code; None where there is no RayJob."""
    if submitted.name is None or submitted.namespace is None:
        return None
    return follow(connect(options.context, submitted.namespace), submitted.name, emit)


def apply(api: Api, configmap: Object, rayjob: Object, *, emit: Emit) -> Applied:
    """1. the job file   2. the RayJob, which reads it   3. the job file goes when the RayJob does.

    Raises ClusterError: where the RayJob is refused nothing is left behind, and what is there is told.
    """
    name = rayjob["metadata"]["name"]
    is_made = _put_configmap(api, configmap, emit)
    try:
        in_cluster, fresh = api.create(RAYJOBS, rayjob), True
    except Conflict:
        found = api.get(RAYJOBS, name)
        if found is None or "deletionTimestamp" in found["metadata"]:
            raise ClusterError(f"RayJob {name} is just being deleted: submit again when it is gone.") from None
        in_cluster, fresh = found, False
        _tell_existing(in_cluster, emit, wanted=rayjob)
    except Unreachable:  # it may be there
        raise
    except ClusterError:
        if is_made:
            _take_back(api, name, emit)
        raise
    try:
        _own(api, configmap, in_cluster)
    except NotAllowed as error:
        emit(Warned(f"RayJob {name} is in the cluster, but its ConfigMap will stay when it is deleted: {error}"))
    except ClusterError as error:
        raise ClusterError(f"RayJob {name} is in the cluster; submitting again does what is left. {error}") from error
    return Applied(in_cluster, fresh)


def describe_submitted(submitted: Submitted, context: str | None) -> list[str]:
    """What `submit` returns, in lines, with the commands to look on with."""
    if submitted.state == "finished":
        return ["This run is finished: nothing was submitted (--new starts another).", f"run     {submitted.run}"]
    name, namespace = submitted.name, submitted.namespace
    more = f"{name} -n {namespace}" + (f" --context {context}" if context else "")
    run = submitted.run or "is known when the cluster has listed the source: `thaw status` tells it"
    return [
        f"rayjob  {name}, {submitted.state} (namespace {namespace})",
        f"run     {run}",
        "",
        "See how far it is:",
        f"  thaw status {more}",
        f"  kubectl get rayjob {more} -o custom-columns={COLUMNS}",
    ]


def _put_configmap(api: Api, configmap: Object, emit: Emit) -> bool:
    """Whether it is new. One with other settings is replaced while no RayJob reads it. Raises ClusterError."""
    name = configmap["metadata"]["name"]
    for _ in range(ROUNDS):
        try:
            api.create(CONFIGMAPS, configmap)
            return True
        except Conflict:
            existing = api.get(CONFIGMAPS, name)
        if existing is None:  # deleted meanwhile
            continue
        if existing.get("data") == configmap["data"]:
            return False
        if api.get(RAYJOBS, name) is not None:
            emit(Warned(f"{name} keeps the settings that it was submitted with, which differ from these"))
            return False
        gone = dict.fromkeys(existing.get("data") or {})
        if api.patch(CONFIGMAPS, name, {"data": {**gone, **configmap["data"]}}) is not None:
            return False
    raise _contended(api, name)


def _take_back(api: Api, configmap: str, emit: Emit) -> None:
    try:
        api.delete(CONFIGMAPS, configmap)
    except ClusterError as error:
        emit(Warned(f"ConfigMap {configmap} was created, and no RayJob that reads it: {error}"))


def _own(api: Api, configmap: Object, rayjob: Object) -> None:
    """Kubernetes deletes the ConfigMap with its owner; an earlier RayJob of this name may just be taking it along."""
    metadata = rayjob["metadata"]
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": metadata["name"], "uid": metadata["uid"]}
    owned = {**configmap, "metadata": {**configmap["metadata"], "ownerReferences": [owner]}}
    for _ in range(ROUNDS):
        if api.patch(CONFIGMAPS, metadata["name"], {"metadata": {"ownerReferences": [owner]}}) is not None:
            return
        try:
            api.create(CONFIGMAPS, owned)
            return
        except Conflict:
            continue
    raise _contended(api, metadata["name"])


def _contended(api: Api, configmap: str) -> ClusterError:
    return ClusterError(f"ConfigMap {configmap} comes and goes in namespace {api.namespace}: who else changes it?")


def _tell_existing(rayjob: Object, emit: Emit, *, wanted: Object) -> None:
    name, code = rayjob["metadata"]["name"], exit_code(rayjob)
    text = f"{name} is submitted already"
    if code:
        text += f", and has failed: to run it again, `thaw cancel {name}`, then submit again"
    elif code == 0:
        text += ", and is complete"
    emit(Announced(text))
    if images(rayjob) != images(wanted):
        emit(
            Warned(f"{name} keeps the image that it was submitted with ({images(rayjob)}): {images(wanted)} is ignored")
        )
