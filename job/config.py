"""The job file's keys: typed, with one place for defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

URI_SCHEMES = ("s3://", "gs://", "file://")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Uri = Annotated[str, Field(description="s3://, gs:// or file://")]


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?\s*", value)
    if match is None:
        raise ValueError(f"a size is a number of bytes, or as in `50 GiB` or `500 MB`, got {value!r}")
    prefix = (match[2] or "").upper().replace("I", "i")
    return int(float(match[1]) * (1024 if prefix.endswith("i") else 1000) ** " KMGT".index(prefix[:1] or " "))


Bytes = Annotated[int, Field(gt=0), BeforeValidator(_bytes)]
MAX_VIEWS = 32


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


class Packed(Section):
    """What the parts of a record are called in the layouts `webdataset`, `parquet` and `tfrecord`."""

    image: str | None = Field(None, min_length=1)
    """The encoded image. WebDataset: extensions (`jpg;jpeg;png;webp;gif;bmp`); Parquet: a column of bytes, or of
    Hugging Face's {bytes, path} (`image`); TFRecord: a feature (`image/encoded`)."""
    label: str | None = Field(None, min_length=1)
    """The class name, or a number that is used as a name: `cls`, `label`, `image/class/label`."""
    group: str | None = Field(None, min_length=1)
    """What has equal values for records that stay on one side of the split (a module, a patient)."""


PACKED_NAMES = {
    "webdataset": Packed(image="jpg;jpeg;png;webp;gif;bmp", label="cls"),
    "parquet": Packed(image="image", label="label"),
    "tfrecord": Packed(image="image/encoded", label="image/class/label"),
}


class Data(Section):
    source: Uri
    """The labelled examples: s3://bucket/prefix/, gs://bucket/prefix/ or file:///folder/."""
    layout: Literal["folders", "table", "webdataset", "parquet", "tfrecord"] = "folders"
    """`folders`: the first folder below the source is the label. `table`: a CSV or Parquet file has the labels.
    `webdataset`, `parquet`, `tfrecord`: shards that hold many images each, with their labels."""
    table: Table | None = None
    packed: Packed | None = None
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

    @model_validator(mode="after")
    def _packed_goes_with_layout(self) -> Data:
        if self.packed is not None and not self.is_packed:
            raise ValueError(f"`packed` is only for the layouts {', '.join(PACKED_NAMES)}, not for {self.layout}")
        return self

    @field_validator("source")
    @classmethod
    def _source_scheme(cls, uri: str) -> str:
        return _check_uri(uri)

    @property
    def label_table(self) -> Table:
        return self.table or Table()

    @property
    def is_packed(self) -> bool:
        """Whether the source holds shards of many images rather than an object for each."""
        return self.layout in PACKED_NAMES

    @property
    def record_names(self) -> Packed:
        """`packed`, with the layout's usual names where none is given."""
        given = self.packed.model_dump(exclude_none=True) if self.packed else {}
        return PACKED_NAMES[self.layout].model_copy(update=given)


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
    """Changes of training images; a pure function of example and view or epoch."""

    flip_horizontal: bool = False
    """Left-right, for half of the images."""
    flip_vertical: bool = False
    """Upside-down, for half of the images."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Degrees: turns about the centre by an angle uniform in ±`rotate`; what was outside mirrors the inside."""
    shift: float = Field(0.0, ge=0, lt=1)
    """A fraction of the side: moves along each side by an own distance, uniform in ±`shift`."""
    scale: float = Field(0.0, ge=0, lt=1)
    """A fraction: zooms about the centre by a factor uniform in 1±`scale` (above 1 enlarges)."""
    brightness: Fraction = 0.0
    """A fraction of the full range: adds a value uniform in ±`brightness` to every pixel."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """A fraction: stretches values about the image's own mean by a factor uniform in 1±`contrast`."""

    @property
    def active(self) -> bool:
        """Whether anything is switched on."""
        return any(value for _, value in self)


class Train(Section):
    batch_size: int = Field(64, gt=0)
    """The global batch size: examples per step over all workers."""
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    class_weights: Literal["auto"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """`auto` weighs each class by the inverse of its frequency; or a weight for each class name."""
    views: int = Field(1, ge=1, le=MAX_VIEWS)
    """Deterministic augmentations of each training example that are used: epoch e sees view e mod `views`, and view 0
    is the plain image. With 1, `augment` draws anew in every epoch, which can't be cached."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Whether fine-tuning reads the stored activation where the network is cut, or computes it from the image in every
    epoch. `auto` weighs bytes against work; `on` insists."""
    cache_limit: Bytes | None = None
    """Disk of each node that features may take, in bytes or as in `50 GiB`; by default half of what is free."""
    cache_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """How activations are stored. `float16` becomes `bfloat16` where a value is too large for it."""
    deterministic: bool | Literal["auto"] = "auto"
    """Bit-exact repeats; `auto` is on for CPUs and off for GPUs."""
    jit_compile: bool | Literal["auto"] = "auto"
    """XLA; `auto` is off on CPUs, and on GPUs off for networks with depthwise convolutions."""

    @field_validator("cache", mode="before")
    @classmethod
    def _words_of_yaml(cls, value: Any) -> Any:
        """YAML reads `on` and `off` as booleans."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


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
        weights stand for themselves in the run id.
        """
        meaning = self.model_dump(
            mode="json", by_alias=True, include={"name", "task", "model", "phases", "augment", "train"}
        )
        del meaning["train"]["cache_limit"]
        return meaning


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
