"""The snapshot: an immutable, content-named table of examples, made by one streaming listing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Data
from job.data.caution import Caution
from job.data.counted import DAY, Counted, no_examples
from job.data.folders import Folders
from job.data.items import Items, Listed
from job.data.labels import labelled
from job.data.mistakes import grouped, labels_of_their_own, listing_cautions, never_trained
from job.data.sources.label_names import named_in_part
from job.data.splits import SPLITS, sides_of
from job.errors import DataError
from job.storage import Store, read_json, table_errors
from job.storage.scratch import scratch

ROWS = 8192
"""The fewest rows of a row group of the snapshot, but for the last."""
SAMPLES = 3
"""Reasons for rejecting that an error names, with an object each."""
MANY = 10
"""From this many examples on, labels are no classes where more than half of the examples have one of their own."""
Progress = Callable[[int], None]

EXAMPLES = pa.schema([(name, pa.string()) for name in ("key", "version", "label", "split")]).insert(
    1, pa.field("size", pa.int64())
)
REJECTS = pa.schema([(name, pa.string()) for name in ("key", "label", "reason")])


@dataclass(frozen=True)
class Snapshot:
    """The summary of a snapshot, which is read without its table."""

    id: str
    examples: int
    classes: list[str]
    counts: dict[str, dict[str, int]]
    """Examples per split and class."""
    rejects: dict[str, int]
    """Listed objects that are no examples, per reason."""
    rejected_per_class: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict, compare=False)
    """Listed objects that are neither examples nor rejects, per kind (an extension, or a reason)."""
    cautions: list[Caution] = field(default_factory=list, compare=False)
    """What is probably a mistake in the listing."""
    arrivals: dict[str, int] = field(default_factory=dict, compare=False)
    """Examples by the day (UTC, YYYY-MM-DD) on which their objects were last written, as far as the listing says."""

    @property
    def key(self) -> str:
        return f"snapshots/{self.id}.parquet"


@dataclass(frozen=True)
class Listing:
    """A snapshot that is on this machine alone."""

    snapshot: Snapshot
    examples: str
    """The path of its table (see EXAMPLES)."""
    rejects: str
    """The path of the table of its rejects."""


def take_snapshot(
    data: Data, source: Store, store: Store, *, task: str = "image", listed: Progress = lambda count: None
) -> Snapshot:
    """Lists the source once and writes `snapshots/<id>.parquet`, its rejects, and last its summary (JSON).

    Raises DataError as `listing` does.
    """
    with listing(data, source, store, task=task, listed=listed) as found:
        snapshot = found.snapshot
        store.upload(snapshot.key, found.examples)
        store.upload(f"snapshots/{snapshot.id}.rejects.parquet", found.rejects)
    store.write(f"snapshots/{snapshot.id}.json", json.dumps(asdict(snapshot), indent=1).encode())
    return snapshot


@contextmanager
def listing(
    data: Data,
    source: Store,
    store: Store,
    *,
    task: str = "image",
    whole: bool = True,
    listed: Progress = lambda count: None,
) -> Iterator[Listing]:
    """Lists the source once. Reads the indexes of packed sources from the store, and keeps in it what a long listing
    has so far. Where the indexes do not cover the `whole` source, a class or a split may be missing. `listed` takes the
    number of objects, or of records of packed files, so far.

    Memory is bounded by one row group, whatever the number of keys. The id is a digest of the examples in the
    order of their keys: the same listing has the same id. Raises DataError where there is nothing to train on.
    """
    with scratch() as folder:
        examples_file, rejects_file = str(Path(folder, "examples")), str(Path(folder, "rejects"))
        digest, counted, folders = hashlib.sha256(), Counted(data), Folders(data, source.uri)
        items = labelled(data, source, store, task=task, links=counted.links, note=counted.notes.append)
        with _Rows(examples_file, EXAMPLES) as examples, _Rows(rejects_file, REJECTS) as rejects:
            count = 0
            for some in items:
                listed(count := count + len(some.key))
                usable = _usable(some, data, counted=counted, folders=folders, rejects=rejects)
                identities = [group or key for group, key in zip(usable.group, usable.key, strict=True)]
                splits = sides_of(usable.split, identities, data)
                columns = (usable.key, usable.size, usable.version, usable.label, splits)
                digest.update(_digested(*columns))
                examples.add(columns)
                counted.add(usable, splits)
        if moved := counted.settle_spare_splits():
            digest.update(json.dumps(moved, sort_keys=True).encode())
            _move(examples_file, moved)
        snapshot = _summary(digest.hexdigest()[:20], counted, folders, data=data, whole=whole)
        check_rejects(snapshot.rejected_per_class, counted.samples, snapshot, data=data)
        folders.check()
        _check(snapshot, counted, folders, data=data, source=source, whole=whole)
        yield Listing(snapshot, examples_file, rejects_file)


def _usable(items: Items, data: Data, *, counted: Counted, folders: Folders, rejects: _Rows) -> Items:
    """The examples among the items; the others are counted."""
    left_out = [reason is not None for reason in items.left_out]
    for item in items.where(left_out).rows():
        counted.leave_out(item)
    items = items.where([not out for out in left_out])
    folders.add(items.key)
    fitting = [0 < size <= data.max_bytes for size in items.size]
    kept = [fits and not reject for fits, reject in zip(fitting, items.reject, strict=True)]
    for item in items.where([not keep for keep in kept]).rows():
        reason = item.reject or _reject_by_size(item, data)
        rejects.add([[item.key], [item.label], [reason]])
        counted.reject(item, str(reason))
    return items.where(kept)


def _digested(*columns: Sequence[object]) -> bytes:
    """What the id of a snapshot is the digest of: a line for each example."""
    rows = zip(*columns, strict=True)
    lines = [f"{key}\0{size}\0{version}\0{label}\0{split}\n" for key, size, version, label, split in rows]
    return "".join(lines).encode("utf-8", "surrogateescape")


def stored_snapshot(store: Store, id: str) -> Snapshot | None:
    """The summary of an earlier snapshot; None where it is gone."""
    summary = read_json(store, f"snapshots/{id}.json")
    if summary is None:
        return None
    return Snapshot(**{**summary, "cautions": [Caution(**caution) for caution in summary.get("cautions", ())]})


def read_snapshot(store: Store, snapshot: Snapshot, columns: list[str]) -> pa.Table:
    """Columns of the snapshot's table, all rows."""
    with table_errors(f"{store.uri}{snapshot.key}"):
        filesystem, root = store.arrow()
        return pq.read_table(f"{root}/{snapshot.key}", columns=columns, filesystem=filesystem)


def check_rejects(
    rejected: dict[str, int], samples: dict[tuple[str, str], str], snapshot: Snapshot, *, data: Data
) -> None:
    """Raises DataError when more than `data.max_rejects` of a class was rejected.

    `rejected` counts them per class, `samples` has one key for each class and reason.
    """
    for label, count in sorted(rejected.items()):
        listed = sum(snapshot.counts[split].get(label, 0) for split in SPLITS)
        total = listed + snapshot.rejected_per_class.get(label, 0)
        if label and count > data.max_rejects * total:
            samples_shown = [
                f"{data.source.rstrip('/')}/{key}: {why}" for (of, why), key in samples.items() if of == label
            ]
            raise DataError(
                f"{count} of {total} objects of class {label!r} can't be used, more than data.max_rejects "
                f"({data.max_rejects:.1%}) allows. Mend or remove them, or raise data.max_rejects. "
                f"For example {'; '.join(samples_shown[:SAMPLES])}."
            )


def _reject_by_size(item: Listed, data: Data) -> str | None:
    if item.size == 0:
        return "empty object"
    return f"larger than data.max_bytes ({data.max_bytes})" if item.size > data.max_bytes else None


def _summary(id: str, counted: Counted, folders: Folders, *, data: Data, whole: bool) -> Snapshot:
    classes = sorted({label for _, label in counted.examples})
    table = {split: {label: counted.examples[split, label] for label in classes} for split in SPLITS}
    days = ((datetime.fromtimestamp(day * DAY, UTC), count) for day, count in sorted(counted.days.items()))
    snapshot = Snapshot(
        id,
        counted.examples.total(),
        classes,
        table,
        dict(sorted(counted.reasons.items())),
        {label: count for label, count in sorted(counted.rejects.items()) if label},
        dict(counted.left_out.most_common()),
        arrivals={f"{day:%Y-%m-%d}": count for day, count in days},
    )
    cautions = listing_cautions(snapshot, counted, data) if whole else ()
    return replace(snapshot, cautions=[*cautions, *folders.cautions(), *named_in_part(data, classes)])


def _check(snapshot: Snapshot, counted: Counted, folders: Folders, *, data: Data, source: Store, whole: bool) -> None:
    if not snapshot.examples:
        raise no_examples(snapshot, counted, data, uri=source.uri, keys=folders.keys)
    if not whole:
        return
    if len(snapshot.classes) < 2:
        only = snapshot.classes[0]
        more = folders.only_class(only) if data.layout == "folders" and data.class_folder == 1 else ""
        more = more or counted.label_file_hint(data)
        if without := counted.without_class():
            more += f" Without a class: {without}."
        raise DataError(f"{source.uri}: only one class, {only!r}, was found: there is nothing to tell apart.{more}")
    for label in snapshot.classes:
        if not snapshot.counts["train"][label]:
            if 2 * len(snapshot.classes) > snapshot.examples >= MANY:
                raise labels_of_their_own(snapshot, data, source.uri)
            raise never_trained(label, snapshot, counted, data=data)
    for split in SPLITS:
        if not sum(snapshot.counts[split].values()):
            problem = f"The {split} split is empty ({snapshot.examples} examples in all): add examples."
            raise DataError(f"{problem}{grouped(data)}")


def _move(path: str, moved: dict[str, str]) -> None:
    """Replaces provisional splits by their final ones (`moved`) in the Parquet file at this path."""
    with pq.ParquetFile(path) as table, pq.ParquetWriter(f"{path}-moved", EXAMPLES, compression="zstd") as writer:
        for batch in table.iter_batches(ROWS):
            splits = [moved.get(split, split) for split in batch["split"].to_pylist()]
            column = pa.array(splits, pa.string())
            writer.write_batch(batch.set_column(EXAMPLES.get_field_index("split"), EXAMPLES.field("split"), column))
    Path(f"{path}-moved").replace(path)


class _Rows:
    """Writes rows to a Parquet file, one row group per shard, in bounded memory."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        names = [name for name in schema.names if name in ("label", "split", "reason")]  # the others are all distinct
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=names)
        self._schema = schema
        self._columns: list[list[object]] = [[] for _ in schema]

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, columns: Sequence[Sequence[object]]) -> None:
        for column, more in zip(self._columns, columns, strict=True):
            column += more
        if len(self._columns[0]) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        columns, self._columns = self._columns, [[] for _ in self._schema]
        if columns[0]:
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=len(columns[0]))
