"""`data`: the labelled examples, and how they are divided."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from job.config.base import Fraction, Section, Uri, check_encoding, check_uri


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


def _form_of_split(value: Any) -> str:
    return "literal[folders]" if isinstance(value, str) else "dict[Split]"


Division = Annotated[
    Annotated[Split, Tag("dict[Split]")] | Annotated[Literal["folders"], Tag("literal[folders]")],
    Discriminator(_form_of_split),
]


class Table(Section):
    """The label file of the layout `table`."""

    file: str = "labels.csv"
    """A file of CSV (`,` `;` `|` or tabs), Parquet, JSON or JSON lines, also packed (gzip, …): relative to
    `data.source`, or a URI of its own."""
    key: str = "key"
    """The column with the object's key, relative to `data.source`; another spelling that fits one object alone is taken
    for it, and told. Of texts in the table, whatever names a row; where
    there is no such column, a digest of the text."""
    text: str | None = None
    """The column with the text, where the examples are in the table themselves (`task: text`)."""
    label: str = "label"
    """The column with the label: a class name, or a number that is used as a name."""
    group: str | None = None
    """A column whose equal values stay on one side of the split (a module, a patient)."""
    split: str | None = None
    """A column of `train`, `validation` and `test`, which `data.split` then leaves alone: a published division."""

    @field_validator("file")
    @classmethod
    def _below_the_source(cls, name: str) -> str:
        if "://" in name:
            return check_uri(name)
        name = name.removeprefix("./")
        if re.match(r"[/~\\]|[A-Za-z]:", name) or ".." in name.split("/"):
            raise ValueError(f"a name below data.source, or a URI (s3://…, gs://…, file:///…), got {name!r}")
        return name

    @model_validator(mode="after")
    def _divided_once(self) -> Table:
        if self.group and self.split:
            raise ValueError("`split` says where each example goes: leave out `group`")
        return self


class Packed(Section):
    """What the parts of a record are called in the layouts `webdataset`, `parquet` and `tfrecord`."""

    image: str | None = Field(None, min_length=1)
    """The encoded image. WebDataset: extensions (`jpg;jpeg;png;webp;gif;bmp;tif;tiff`), the first that is there;
    Parquet: a column of bytes, or of Hugging Face's {bytes, path} (`image`); TFRecord: a feature (`image/encoded`)."""
    label: str | None = Field(None, min_length=1)
    """The class name, or a number that is used as a name: `cls`, `label`, `image/class/label`. A field of JSON
    (WebDataset) or of a struct (Parquet) by its path: `json.label`, `json.patient.name`."""
    group: str | None = Field(None, min_length=1)
    """What has equal values for records that stay on one side of the split (a module, a patient); by a path as well."""
    names: str | list[str] | dict[int, str] | None = None
    """What labels that are numbers are called: a list, whose first is 0; a mapping; or a file (relative to
    `data.source`, or a URI of its own) with a name on each line, JSON, or a label map (.pbtxt)."""

    @field_validator("names", mode="before")
    @classmethod
    def _names_are_text(cls, given: object) -> object:
        pairs = given if isinstance(given, dict) else dict(enumerate(given)) if isinstance(given, list) else {}
        whole = all(re.fullmatch(r"-?\d+", str(at)) and isinstance(name, str) for at, name in pairs.items())
        if not whole or not isinstance(given, str | list | dict | None):
            raise ValueError(
                "names are text: a list ([cat, dog]), a mapping of numbers ({0: cat, 1: dog}), or a file of them, "
                f"got {str(given)[:80]}"
            )
        return given


PACKED_NAMES = {
    "webdataset": Packed(image="jpg;jpeg;png;webp;gif;bmp;tif;tiff", label="cls"),
    "parquet": Packed(image="image", label="label"),
    "tfrecord": Packed(image="image/encoded", label="image/class/label"),
}


Glob = Annotated[str, Field(min_length=1)]


class Data(Section):
    source: Uri
    """The labelled examples: s3://bucket/prefix/, gs://bucket/prefix/ or file:///folder/."""
    inventory: Uri | None = None
    """The objects as an inventory has them, in place of a listing: the manifest of S3 Inventory or of a Cloud Storage
    inventory report, or the folder with one for each day, whose latest is taken."""
    layout: Literal["folders", "table", "webdataset", "parquet", "tfrecord"] = "folders"
    """`folders`: a folder below the source is the label. `table`: a CSV, Parquet or JSON lines file has
    the labels. `webdataset`, `parquet`, `tfrecord`: shards that hold many images each, with their labels."""
    table: Table | None = None
    packed: Packed | None = None
    split: Division = Split()
    """How examples are divided. `folders` takes a published division: folders that are called train, val, test (or the
    like), above or below those of the classes; what has no folder is taken from train."""
    class_folder: int = 1
    """Layout `folders`: which folder of a key is the class, from 1 at the source, or from -1 at the object. Those of
    `split: folders` do not count."""
    include: list[Glob] | None = Field(None, min_length=1)
    """Keys below the source that are examples, as globs: `*.jpg`, `2024/*`, in any case; `*` also stands for slashes.
    By default what has an extension of pictures (or of texts). Packed layouts: which files are read."""
    exclude: list[Glob] = Field([])
    """Keys below the source that are left out, as globs, also where `include` or a label file names them."""
    follow_links: bool = False
    """Folders of this machine: whether links that lead out of the source are followed."""
    encoding: str | None = None
    """What the label file, or each text that is an object, is written in: `cp1252`, `latin-1`, `shift_jis`, … A byte
    order mark counts before it. `null`: UTF-8; of a label file that is not, it is guessed, and the guess is told."""
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

    @field_validator("include", "exclude", mode="before")
    @classmethod
    def _one_glob(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("class_folder")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ValueError("1 is the first folder below the source, -1 the one that the object is in")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        return check_encoding(name) if name is not None else None

    @field_validator("value_range")
    @classmethod
    def _low_below_high(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"[low, high]: low must be below high, got [{bounds[0]:g}, {bounds[1]:g}]")
        return bounds

    @field_validator("source", "inventory")
    @classmethod
    def _is_uri(cls, uri: str | None) -> str | None:
        return check_uri(uri) if uri is not None else None

    @model_validator(mode="after")
    def _inventory_goes_with_source(self) -> Data:
        scheme = self.source.partition(":")[0]
        if self.inventory is not None and (scheme == "file" or not self.inventory.startswith(f"{scheme}:")):
            raise ValueError("`inventory` is of a bucket: it begins with s3:// or gs://, as data.source does")
        if self.inventory is not None and self.table is not None and self.table.text:
            raise ValueError("`inventory` is for examples that are objects: leave it out, or `table.text`")
        return self

    @model_validator(mode="after")
    def _class_folder_goes_with_layout(self) -> Data:
        if self.class_folder != 1 and self.layout != "folders":
            raise ValueError("`class_folder` is only for `layout: folders`")
        if self.split == "folders" and self.table is not None and (self.table.split or self.table.text):
            raise ValueError("`split: folders` goes by the keys of objects: leave it out, or `table.split`")
        return self

    @property
    def fractions(self) -> Split:
        """The shares of a division by hash. With published folders, they apply to the splits that are missing."""
        return self.split if isinstance(self.split, Split) else Split()

    @property
    def label_table(self) -> Table:
        return self.table or Table()

    @property
    def is_packed(self) -> bool:
        """Whether the source holds shards of many images rather than an object for each."""
        return self.layout in PACKED_NAMES

    @property
    def record_names(self) -> Packed:
        """`packed`, with the usual names of the layout where none are given."""
        given = self.packed.model_dump(exclude_none=True) if self.packed else {}
        return PACKED_NAMES[self.layout].model_copy(update=given)
