"""The job file's keys: typed, with one place for defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

URI_SCHEMES = ("s3://", "gs://", "file://")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Uri = Annotated[str, Field(description="s3://, gs:// or file://")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class Split(Section):
    """How examples are divided, by a hash of the key (or group): an example never changes sides."""

    train: Fraction = 0.70
    validation: Fraction = 0.15
    test: Fraction = 0.15

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        if min(self.train, self.validation, self.test) <= 0:
            raise ValueError("train, validation and test must each be above 0")
        return self


class Table(Section):
    """The label file of the layout `table`."""

    file: str = "labels.csv"
    """A CSV or Parquet file: relative to `data.source`, or a URI of its own."""
    key: str = "key"
    """The column with the object's key, relative to `data.source`."""
    label: str = "label"
    """The column with the label: a class name, or a number that is used as a name."""
    group: str | None = None
    """A column whose equal values stay on one side of the split (a module, a patient)."""


class Data(Section):
    source: Uri
    """The labelled examples: s3://bucket/prefix/, gs://bucket/prefix/ or file:///folder/."""
    layout: Literal["folders", "table"] = "folders"
    """`folders`: the first folder below the source is the label. `table`: a CSV or Parquet file has the labels."""
    table: Table | None = None
    split: Split = Split()
    max_rejects: Fraction = 0.01
    """The run fails with exit code 3 when more than this fraction of a class can't be used."""
    max_bytes: int = Field(64 * 2**20, gt=0)
    """Objects larger than this many bytes are rejected unread."""
    max_pixels: int = Field(50_000_000, gt=0)
    """Images with more pixels than this are rejected from their header (decompression bombs)."""

    @model_validator(mode="after")
    def _table_goes_with_layout(self) -> Data:
        if self.table is not None and self.layout != "table":
            raise ValueError("`table` is only for `layout: table`")
        return self

    @field_validator("source")
    @classmethod
    def _source_scheme(cls, uri: str) -> str:
        return _check_uri(uri)

    @property
    def label_table(self) -> Table:
        return self.table or Table()


class Weights(Section):
    """Pretrained weights by URI."""

    uri: Uri
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Checked before a byte is used."""

    @field_validator("uri")
    @classmethod
    def _scheme(cls, uri: str) -> str:
        return _check_uri(uri)


class Head(Section):
    """Dense layers trained on the pooled features of the frozen base."""

    hidden: list[Annotated[int, Field(gt=0, le=65536)]] = [256]
    """Units of each hidden layer (ReLU)."""
    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Dropout rate after each hidden layer, and on the features where there is none."""


class Model(Section):
    backbone: str = "efficientnet_lite0"
    """`efficientnet_lite0`, a name of keras.applications (`vgg19`, `resnet50`, …), or the URI of a .keras file."""
    weights: Literal["imagenet", "package", "none"] | Weights | None = Field(None, union_mode="left_to_right")
    """`imagenet`, `package`, `none`, a URI, or {uri, sha256}. By default `package` for efficientnet_lite0,
    the file's own for a .keras file, and `imagenet` for the others."""
    image_size: int = Field(224, ge=16, le=4096)
    """Height and width that images are resized to, in pixels."""
    resize: Literal["stretch", "crop"] = "stretch"
    """`stretch` uses the whole picture; `crop` the central square of 7/8 of the short side (ImageNet's recipe)."""
    preprocessing: Literal["auto", "none", "unit", "symmetric", "torch", "caffe"] = "auto"
    """How pixels 0…255 become inputs: `auto` is the backbone's own (`none` for a .keras file), `unit` 0…1,
    `symmetric` -1…1, `torch` ImageNet's mean and deviation, `caffe` BGR less ImageNet's mean."""
    head: Head = Head()

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_by_uri(cls, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            return {"uri": value}
        if isinstance(value, str) and value not in ("imagenet", "package", "none"):
            raise ValueError(f"weights are `imagenet`, `package`, `none` or a URI, not {value!r}")
        return value

    @field_validator("backbone")
    @classmethod
    def _backbone_scheme(cls, value: str) -> str:
        if "://" not in value:
            return value.lower()
        _check_uri(value)
        if not value.endswith(".keras"):
            raise ValueError(f"a backbone by URI must be a .keras file, got {value!r}")
        return value

    @model_validator(mode="after")
    def _weights_fit_backbone(self) -> Model:
        if self.weights == "package" and self.backbone != "efficientnet_lite0":
            raise ValueError(f"weights: package exists for efficientnet_lite0 only, not for {self.backbone!r}")
        if self.weights == "imagenet" and (self.backbone == "efficientnet_lite0" or "://" in self.backbone):
            raise ValueError(f"weights: imagenet exists for the names of keras.applications, not for {self.backbone!r}")
        return self

    @property
    def weights_source(self) -> str | Weights:
        """`imagenet`, `package`, `none`, `own` (those inside the .keras file) or `Weights`."""
        if self.weights is not None:
            return self.weights
        if "://" in self.backbone:
            return "own"
        return "package" if self.backbone == "efficientnet_lite0" else "imagenet"


class UnfreezeBlocks(Section):
    blocks: int = Field(gt=0)
    """Thaw this many blocks, counted from the top."""


class UnfreezeFrom(Section):
    from_: str = Field(alias="from")
    """Thaw this layer and every layer above it."""


class UnfreezeMatch(Section):
    match: list[str] = Field(min_length=1)
    """Thaw the layers whose names match one of these shell patterns."""


Unfreeze = Union[UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch]


class Optimization(Section):
    """What both phases have in common."""

    epochs: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has momentum 0.9."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` falls to 0 over the phase's epochs."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of `adamw`; biases are spared."""
    patience: int | None = Field(None, gt=0)
    """Stop after this many epochs without a better validation loss."""

    @model_validator(mode="after")
    def _decay_needs_adamw(self) -> Optimization:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight_decay needs `optimizer: adamw`")
        return self


class HeadPhase(Optimization):
    epochs: int = Field(50, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    patience: int = Field(5, gt=0)


class FineTunePhase(Optimization):
    unfreeze: Unfreeze = UnfreezeBlocks(blocks=2)
    epochs: int = Field(10, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    allow_unconverged_head: bool = False
    """Fine-tune even if the head phase ran out of epochs before its patience was reached."""

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _one_rule(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = ["blocks", "from", "match"]
            if len(value) != 1 or next(iter(value)) not in known:
                got = ", ".join(map(str, value)) or "nothing"
                raise ValueError(f"exactly one of `blocks`, `from`, `match` is needed, got {got}")
            rules: dict[str, type[Section]] = {"blocks": UnfreezeBlocks, "from": UnfreezeFrom, "match": UnfreezeMatch}
            rule = rules[next(iter(value))]
            if isinstance(value.get("match"), str):
                value = {"match": [value["match"]]}
            return rule.model_validate(value)
        return value


class Phases(Section):
    head: HeadPhase = HeadPhase()
    fine_tune: FineTunePhase | None = FineTunePhase()
    """`null` ends the run with the head."""


class Augment(Section):
    """Random changes of training images while fine-tuning; seeded by example and epoch."""

    flip_horizontal: bool = False
    flip_vertical: bool = False


class Train(Section):
    batch_size: int = Field(64, gt=0)
    """The global batch size: examples per step over all workers."""
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    class_weights: Literal["auto"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """`auto` weighs each class by the inverse of its frequency; or a weight for each class name."""
    deterministic: bool | Literal["auto"] = "auto"
    """Bit-exact repeats; `auto` is on for CPUs and off for GPUs."""
    jit_compile: bool | Literal["auto"] = "auto"
    """XLA; `auto` is off on CPUs, and on GPUs off for networks with depthwise convolutions."""


class Scaling(Section):
    workers: int = Field(2, ge=1, le=4096)
    gpu: bool = False
    """Gives each worker one GPU."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPU cores of each worker; by default an equal share on one machine, and 1 on a cluster."""


class Job(Section):
    """A transfer-learning job."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """1 to 40 lower-case letters, digits and dashes."""
    task: Literal["image"] = "image"
    data: Data
    store: Uri
    """Where snapshots, features, runs and models are kept."""
    model: Model = Model()
    phases: Phases = Phases()
    augment: Augment = Augment()
    train: Train = Train()
    scaling: Scaling = Scaling()

    @field_validator("store")
    @classmethod
    def _store_scheme(cls, uri: str) -> str:
        return _check_uri(uri)

    def meaning(self) -> dict[str, Any]:
        """The part of the job that can change its result (defaults filled in), as JSON types.

        Where the data and the store are and how many workers there are is not in it: the snapshot and the
        weights stand for themselves in the run id.
        """
        return self.model_dump(
            mode="json", by_alias=True, include={"name", "task", "model", "phases", "augment", "train"}
        )


def job_schema() -> dict[str, Any]:
    """The job file's JSON schema, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema(by_alias=True)}


def _check_uri(uri: str) -> str:
    if not uri.startswith(URI_SCHEMES):
        raise ValueError(f"a URI must begin with s3://, gs:// or file://, got {uri!r}")
    rest = uri.split("://", 1)[1]
    if uri.startswith("file://"):
        if not rest.startswith("/"):
            raise ValueError(f"a file URI has an absolute path (file:///folder), got {uri!r}")
    elif not re.match(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}(/|$)", rest):
        raise ValueError(f"{uri!r} names no valid bucket")
    return uri
