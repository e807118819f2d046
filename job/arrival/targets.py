"""The targets: jobs that arrivals start. They are read and checked before the first event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from job.arrival.settings import Watch, WatchedJob
from job.config import Job
from job.config.jobfile import load_job
from job.data.selection import Selection
from job.data.source import open_source
from job.deploy.api import Api, Object, connect
from job.deploy.manifest import fitting_rayjob, namespace_of
from job.deploy.overlay import SHIPPED, read_overlay
from job.deploy.refusals import WATCHER
from job.deploy.submit import Options
from job.errors import JobError
from job.storage import open_store, split_uri


@dataclass(frozen=True)
class Target:
    """A job, and the template of its RayJob."""

    job: Job
    options: Options
    shipped: Object
    api: Api
    min_new: int = 1
    concurrency: Literal["queue", "replace"] = "queue"

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def buckets(self) -> set[str]:
        """The buckets that this job reads its examples from, as URIs: s3://bucket/."""
        return {_bucket(uri) for uri in (self._source, self._label_file) if uri}

    @property
    def known_buckets(self) -> set[str]:
        """The buckets whose events may reach its queue: of those of its own store, none concerns it."""
        return {*self.buckets, _bucket(self._store)}

    def concerns(self, uri: str) -> bool:
        """Whether a change of this object may change the listing of the source.

        Objects in the job's own store do not count, even where that is below the source; nor do objects that are left
        out of the listing.
        """
        if uri == self._label_file:
            return True
        if not uri.startswith(self._source) or uri.startswith(self._store):
            return False
        key, listed = uri.removeprefix(self._source), self.job.data.layout == "table"
        return self._selection.left_out(key, listed) is None

    @cached_property
    def _selection(self) -> Selection:
        return Selection(self.job.data, self.job.task)

    @cached_property
    def _source(self) -> str:
        return open_source(self.job).uri

    @cached_property
    def _store(self) -> str:
        return open_store(self.job.store).uri

    @cached_property
    def _label_file(self) -> str | None:
        """The URI of the label file, which may be outside of the source; None in other layouts than `table`."""
        file = self.job.data.label_table.file
        if self.job.data.layout != "table":
            return None
        if "://" not in file:
            return self._source + file
        root, name = split_uri(file)
        return open_store(root).uri + name


def make_target(
    job: Job, options: Options, min_new: int = 1, *, concurrency: Literal["queue", "replace"] = "queue"
) -> Target:
    """The target of a job. Raises JobError where it does not fit the overlay, and ClusterError without credentials."""
    shipped = fitting_rayjob(job, read_overlay(options.overlay), options.overlay)
    api = connect(options.context, namespace_of(shipped, options.namespace), WATCHER)
    return Target(job, options, shipped, api, min_new, concurrency)


def load_targets(watch: Watch, folder: Path) -> dict[str, Target]:
    """The targets by job name; `folder` is that of the watch file. Raises JobError and ClusterError."""
    targets = [_load(item, folder) for item in watch.jobs]
    twice = [name for name, count in Counter(target.name for target in targets).items() if count > 1]
    if twice:
        raise JobError(f"jobs: two jobs have the name {twice[0]!r}, by which their runs are told apart: change one.")
    for target in targets:
        for uri in sorted(target.buckets):
            if not uri.startswith(f"{watch.scheme}://"):
                raise JobError(
                    f"jobs: {target.name}: {watch.queue} tells of {watch.scheme}:// only, and its data is in {uri}: "
                    "watch it with a queue of its own."
                )
    return {target.name: target for target in targets}


def known_buckets(targets: Iterable[Target]) -> frozenset[str]:
    return frozenset().union(*(target.known_buckets for target in targets))


def _load(item: WatchedJob, folder: Path) -> Target:
    overlay = item.overlay if item.overlay in SHIPPED else str(folder / item.overlay)
    options, job = Options(overlay, item.image, item.namespace, item.context), load_job(folder / item.job)
    if job.data.inventory is not None:
        raise JobError(
            f"jobs: {job.name}: data.inventory has what was there up to a day ago, and not what has just arrived: "
            "leave it out of a job that is watched."
        )
    return make_target(job, options, item.min_new, concurrency=item.concurrency)


def _bucket(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"
