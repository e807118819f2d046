"""The record of a run for registries and lineage: what went in, what came out, how good it is.

runs/<run>/record.json   see docs/report.md; its schema is docs/run-record.schema.json (`thaw schema --of record`)

Its ids are OpenLineage's: a data set is a namespace (`s3://bucket`, `gs://bucket`, `file`) and a name in it; a job is
its name in the namespace that is its store; a run is a UUID.
"""

from __future__ import annotations

import math
import platform
from importlib.metadata import PackageNotFoundError
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BaseModel, ConfigDict, ValidationError

from job import __version__
from job.config import GLOVE, Weights
from job.errors import StorageError
from job.evaluation.intervals import CONFIDENCE, METHODS, Interval, class_rows, gain, metric_intervals
from job.evaluation.run_documents import Documents
from job.libraries import library_version
from job.storage import Store, read_json
from job.storage.run_keys import RunKeys

LIBRARIES = ("tensorflow", "keras", "ray", "numpy", "pyarrow")


class RecordPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Named(RecordPart):
    """A run, a job, or a data set, by its name in a namespace."""

    namespace: str
    name: str


class Run(Named):
    uuid: UUID
    """OpenLineage's `runId`: version 5, of the run's URI, so that every attempt and every copy has the same."""


class DataSet(Named):
    role: Literal["examples", "snapshot", "weights", "model", "report"]
    version: str | None = None
    """The snapshot's id, the weights' sha256, or the attempt that exported the model."""


class Metric(RecordPart):
    """On the test split."""

    model: Literal["head", "fine_tune"]
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    """The interval at `confidence`; null where there is none."""
    method: str | None = None
    """How it was made."""


class ClassMetric(RecordPart):
    """A class, in the answers of the model that was kept."""

    name: str
    support: int
    precision: float | None
    recall: float | None


class RunRecord(RecordPart):
    format: Literal[1] = 1
    run: Run
    job: Named
    """Its namespace is the store: a job of the same name in another store is another job."""
    task: Literal["image", "text"]
    kept: Literal["head", "fine_tune"]
    """Which model was exported."""
    promoted: bool | None
    """Whether it was put into use; null where that was not judged."""
    attempts: int | None
    seconds: float | None
    """The seconds of all attempts that were recorded."""
    versions: dict[str, str]
    """The versions of Thaw, Python and the libraries that finished the run; empty where they were not recorded."""
    seeds: dict[str, int]
    """`train` of the job file, from which every other seed follows, those of the resamples included."""
    inputs: list[DataSet]
    outputs: list[DataSet]
    confidence: float = CONFIDENCE
    metrics: list[Metric]
    gain: Metric | None
    """Accuracy of fine-tuning less that of the head alone, by the paired bootstrap; null where one was not trained."""
    classes: list[ClassMetric]
    licence: str | None
    settings: dict[str, Any]
    """The whole job file, defaults filled in."""


class _Versions(BaseModel):
    """As much of a record, of whatever release, as one that is made anew takes over."""

    format: Literal[1]
    versions: dict[str, str]


def make_record(documents: Documents, versions: dict[str, str]) -> RunRecord:
    job, snapshot, timings = documents.job, documents.snapshot, documents.timings
    made_at = documents.result.run
    namespace = made_at.removesuffix(f"/runs/{documents.run}/")
    gained = gain(documents.predictions, "accuracy", job.train.seed) if len(documents.models) == 2 else None
    kept = documents.metrics[documents.kept]
    return RunRecord(
        run=Run(namespace=namespace, name=documents.run, uuid=run_uuid(made_at)),
        job=Named(namespace=namespace, name=job.name),
        task=job.task,
        kept=documents.kept,
        promoted=documents.promotion.promoted if documents.promotion else None,
        attempts=max((row.attempt for row in timings), default=None),
        seconds=round(sum(row.seconds for row in timings), 2) if timings else None,
        versions=versions,
        seeds={"train": job.train.seed},
        inputs=_inputs(documents),
        outputs=_outputs(documents),
        metrics=[metric for model in documents.models for metric in _metrics(documents, model)],
        gain=_metric("fine_tune", "accuracy gain", gained, method="paired bootstrap") if gained else None,
        classes=[
            ClassMetric(
                name=row.name,
                support=row.support,
                precision=row.precision and row.precision.value,
                recall=row.recall and row.recall.value,
            )
            for row in class_rows(kept.confusion, snapshot.classes)
        ],
        licence=job.card.licence,
        settings=job.model_dump(mode="json", by_alias=True),
    )


def versions_here() -> dict[str, str]:
    """The versions of this process."""
    versions = {"thaw": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return versions


def recorded_versions(store: Store, run: str) -> dict[str, str]:
    """The versions that finished the run; empty where there is no record of it."""
    try:
        return _Versions.model_validate(read_json(store, RunKeys(run).record)).versions
    except (StorageError, ValidationError):
        return {}


def record_schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunRecord.model_json_schema()}


def dataset_name(uri: str) -> tuple[str, str]:
    """The namespace and the name of a URI: `s3://bucket/a/b/` -> (`s3://bucket`, `a/b`)."""
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return "file", rest.removesuffix("/") or "/"
    bucket, _, path = rest.partition("/")
    return f"{scheme}://{bucket}", path.removesuffix("/") or "/"


def run_uuid(uri: str) -> UUID:
    """The UUID of the run by the URI at which it was made (`…/runs/<id>/`): the same on every machine."""
    return uuid5(NAMESPACE_URL, uri)


def _dataset(uri: str, role: Any, version: str | None = None) -> DataSet:
    namespace, name = dataset_name(uri)
    return DataSet(namespace=namespace, name=name, role=role, version=version)


def _inputs(documents: Documents) -> list[DataSet]:
    store, snapshot, base = documents.store.uri, documents.snapshot, documents.base
    inputs = [
        _dataset(documents.job.data.source, "examples", snapshot.id),
        _dataset(f"{store}{snapshot.key}", "snapshot", snapshot.id),
    ]
    if base is not None:
        source = documents.job.model.weights_source
        uri = f"{store}weights/{base.weights_sha256}.safetensors"
        if documents.job.model.backbone == GLOVE and isinstance(source, Weights):  # a file of vectors is not copied
            uri = source.uri
        inputs.append(_dataset(uri, "weights", base.weights_sha256))
    return inputs


def _outputs(documents: Documents) -> list[DataSet]:
    model = str(documents.result.model)
    attempt = model.rstrip("/").rpartition("/")[2]
    return [_dataset(model, "model", attempt), _dataset(f"{documents.uri}report", "report")]


def _metrics(documents: Documents, model: str) -> list[Metric]:
    measured = documents.metrics[model]
    intervals = metric_intervals(documents.predictions, model, documents.job.train.seed)
    metrics = [
        Metric(
            model=model,
            name=name,
            value=value,
            low=interval and interval.low,
            high=interval and interval.high,
            method=METHODS[name] if interval else None,
        )
        for name, interval in intervals.items()
        if (value := getattr(measured, name)) is not None
    ]
    loss = measured.loss
    return [*metrics, *([Metric(model=model, name="loss", value=loss)] if math.isfinite(loss) else [])]


def _metric(model: Any, name: str, interval: Interval, *, method: str) -> Metric:
    return Metric(model=model, name=name, value=interval.value, low=interval.low, high=interval.high, method=method)
