"""`data`: the labelled examples, and how they are divided."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from job.config.base import Fraction, Section, Uri, check_uri


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
    """A file of CSV, Parquet or JSON lines (.jsonl): relative to `data.source`, or a URI of its own."""
    key: str = "key"
    """The column with the object's key, relative to `data.source`. Of texts in the table, whatever names a row; where
    there is no such column, a digest of the text."""
    text: str | None = None
    """The column with the text, where the examples are in the table themselves (`task: text`)."""
    label: str = "label"
    """The column with the label: a class name, or a number that is used as a name."""
    group: str | None = None
    """A column whose equal values stay on one side of the split (a module, a patient)."""
    split: str | None = None
    """A column of `train`, `validation` and `test`, which `data.split` then leaves alone: a published division."""

    @model_validator(mode="after")
    def _divided_once(self) -> Table:
        if self.group and self.split:
            raise ValueError("`split` says where each example goes: leave out `group`")
        return self


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
    """`folders`: the first folder below the source is the label. `table`: a CSV, Parquet or JSON lines file has
    the labels. `webdataset`, `parquet`, `tfrecord`: shards that hold many images each, with their labels."""
    table: Table | None = None
    packed: Packed | None = None
    split: Split = Split()
    max_rejects: Fraction = 0.01
    """The run fails with exit code 3 when more than this fraction of a class can't be used."""
    max_bytes: int = Field(64 * 2**20, gt=0)
    """Objects larger than this many bytes are rejected unread."""
    max_pixels: int = Field(50_000_000, gt=0)
    """Images with more pixels than this are rejected from their header (decompression bombs)."""
    value_range: tuple[float, float] | None = None
    """[low, high] of the values of images of more than 8 bits, which become 0 and 255: [0, 4095] of 12 bits in files of
    16. Without it, all that the file's type can hold."""

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

    @field_validator("value_range")
    @classmethod
    def _low_below_high(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not -math.inf < bounds[0] < bounds[1] < math.inf:
            raise ValueError(f"[low, high]: low must be below high, got [{bounds[0]:g}, {bounds[1]:g}]")
        return bounds

    @field_validator("source")
    @classmethod
    def _source_scheme(cls, uri: str) -> str:
        return check_uri(uri)

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
