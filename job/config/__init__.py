"""The job file's keys: typed, with one place for defaults."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from job.config.arrival import Promotion, RetrainWhen
from job.config.base import Section, Uri, check_uri
from job.config.card import Card
from job.config.data import Data, Packed, Split, Table
from job.config.export import FORMATS, Export
from job.config.mlflow import MLflow
from job.config.model import GLOVE, LITE, Head, Model, Weights
from job.config.running import CheckpointPolicy, Limits, Recovery, Scaling, WorkerRange
from job.config.storage import Storage
from job.config.task import OF_PICTURES, OF_TEXTS, check_task, fill_in
from job.config.training import (
    Augment,
    FineTunePhase,
    HeadPhase,
    Optimization,
    Phases,
    Train,
    UnfreezeAuto,
    UnfreezeBlocks,
    UnfreezeFrom,
    UnfreezeMatch,
    UnfreezeWords,
)

__all__ = [
    "FORMATS",
    "GLOVE",
    "LITE",
    "Augment",
    "Card",
    "CheckpointPolicy",
    "Data",
    "Export",
    "FineTunePhase",
    "Head",
    "HeadPhase",
    "Job",
    "Limits",
    "MLflow",
    "Model",
    "Optimization",
    "Packed",
    "Phases",
    "Promotion",
    "Recovery",
    "RetrainWhen",
    "Scaling",
    "Split",
    "Storage",
    "Table",
    "Train",
    "UnfreezeAuto",
    "UnfreezeBlocks",
    "UnfreezeFrom",
    "UnfreezeMatch",
    "UnfreezeWords",
    "Weights",
    "WorkerRange",
    "job_schema",
]


class Job(Section):
    """A transfer-learning job."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """1 to 40 lower-case letters, digits and dashes."""
    task: Literal["image", "text"] = "image"
    data: Data
    store: Uri
    """Where snapshots, features, runs and models are kept."""
    storage: Storage = Storage()
    model: Model = Model()
    phases: Phases = Phases()
    augment: Augment = Augment()
    train: Train = Train()
    scaling: Scaling = Scaling()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    recovery: Recovery = Recovery()
    limits: Limits = Limits()
    retrain_when: RetrainWhen | None = None
    """`null`: every run trains."""
    promote: Promotion | None = Promotion()
    """`null`: no model becomes the current one but by hand."""
    card: Card = Card()
    export: Export = Export()
    mlflow: MLflow | None = None
    """`null`: runs are not logged to MLflow."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, document: Any) -> Any:
        return fill_in(document)

    @model_validator(mode="after")
    def _settings_of_task(self) -> Job:
        check_task(self)
        return self

    @field_validator("store")
    @classmethod
    def _store_scheme(cls, uri: str) -> str:
        return check_uri(uri)

    @model_validator(mode="after")
    def _costs_need_a_price(self) -> Job:
        if self.limits.cost is not None and not self.scaling.worker_price:
            raise ValueError("limits.cost: scaling.worker_price is needed, what an hour of one worker costs")
        return self

    @model_validator(mode="after")
    def _views_need_augment(self) -> Job:
        if self.train.views > 1 and not self.augment.active:
            raise ValueError(
                "train.views: there is nothing to augment: switch something on in `augment`, or leave it 1"
            )
        if self.train.cache == "on" and self.train.views == 1 and self.augment.active:
            raise ValueError(
                "train.cache: on: `augment` with train.views: 1 draws anew in every epoch, which can't be cached: "
                "raise train.views (4, for example), or leave train.cache auto"
            )
        return self

    def meaning(self) -> dict[str, Any]:
        """The part of the job that can change its result (defaults filled in), as JSON types.

        Where the data and the store are and how many workers there are is not in it: the snapshot and the
        weights stand for themselves in the run id. Of the data, it is what the snapshot does not tell.
        """
        meaning = self.model_dump(
            mode="json", by_alias=True, include={"name", "task", "model", "phases", "augment", "train"}
        )
        del meaning["train"]["cache_limit"]
        for name in OF_TEXTS if self.task == "image" else OF_PICTURES:
            del meaning["model"][name]
        if self.model.end_at is None:
            del meaning["model"]["end_at"]
        meaning["data"] = {}
        if self.task == "image":
            meaning["data"] = self.data.model_dump(mode="json", include={"max_pixels", "value_range"})
        elif self.data.encoding and self.data.label_table.text is None:
            meaning["data"]["encoding"] = self.data.encoding
        if self.data.is_packed:
            meaning["data"]["image"] = self.data.record_names.image
        return meaning


def job_schema() -> dict[str, Any]:
    """The job file's JSON schema, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema(by_alias=True)}
