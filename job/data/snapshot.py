"""The snapshot: an immutable, content-named table of examples, made by one streaming listing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Data
from job.data.labels import Listed, labelled
from job.data.splits import SPLITS, split_of
from job.errors import DataError
from job.storage import Store, read_json, table_errors
from job.storage.scratch import scratch

ROWS = 8192
"""Of a row group of the snapshot."""
DAY = 86_400
"""Seconds."""
SAMPLES = 3
"""Reasons for rejecting that an error names, with an object each."""
MANY, LETTERS = 10, 60
"""Examples, at least, of which more than half have labels of their own, that are no classes; letters shown of one."""

WANTED = {
    "folders": "data.layout folders wants CLASS/… below the source.",
    "table": "data.table says which file has the keys and the labels.",
}

EXAMPLES = pa.schema([(name, pa.string()) for name in ("key", "version", "label", "split")]).insert(
    1, pa.field("size", pa.int64())
)
REJECTS = pa.schema([(name, pa.string()) for name in ("key", "label", "reason")])


@dataclass(frozen=True)
class Snapshot:
    """What is known of a snapshot without reading its table."""

    id: str
    examples: int
    classes: list[str]
    counts: dict[str, dict[str, int]]
    """Examples per split and class."""
    rejects: dict[str, int]
    """Listed objects that are no examples, per reason."""
    rejected_per_class: dict[str, int]
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


def take_snapshot(data: Data, source: Store, store: Store) -> Snapshot:
    """Lists the source once and writes `snapshots/<id>.parquet`, its rejects, and last its summary (JSON).

    Raises DataError as `listing` does.
    """
    with listing(data, source, store) as listed:
        snapshot = listed.snapshot
        store.upload(snapshot.key, listed.examples)
        store.upload(f"snapshots/{snapshot.id}.rejects.parquet", listed.rejects)
    store.write(f"snapshots/{snapshot.id}.json", json.dumps(asdict(snapshot), indent=1).encode())
    return snapshot


@contextmanager
def listing(data: Data, source: Store, store: Store, whole: bool = True) -> Iterator[Listing]:
    """Lists the source once, and writes nothing to the store, which has the indexes of packed sources. Where those are
    not of the `whole` source, a class or a split may be missing.

    Memory is bounded by one row group, whatever the number of keys. The id is a digest of the examples in the
    order of their keys: the same listing has the same id. Raises DataError where there is nothing to train on.
    """
    with scratch() as folder:
        examples_file, rejects_file = str(Path(folder, "examples")), str(Path(folder, "rejects"))
        digest, counts = hashlib.sha256(), Counter[tuple[str, str]]()
        reasons, per_class, days = Counter[str](), Counter[str](), Counter[int]()
        samples: dict[tuple[str, str], str] = {}
        with _Rows(examples_file, EXAMPLES) as examples, _Rows(rejects_file, REJECTS) as rejects:
            for item in labelled(data, source, store):
                reason = item.reject or _reject_by_size(item, data)
                if reason or item.label is None:
                    rejects.add((item.key, item.label, reason))
                    reasons[str(reason)] += 1
                    per_class[item.label or ""] += 1
                    samples.setdefault((item.label or "", str(reason)), item.key)
                    continue
                split = item.split or split_of(item.group or item.key, data.split)
                row = (item.key, item.size, item.version, item.label, split)
                digest.update(("\0".join(map(str, row)) + "\n").encode("utf-8", "surrogateescape"))
                examples.add(row)
                counts[split, item.label] += 1
                if item.modified is not None:
                    days[int(item.modified // DAY)] += 1
        snapshot = _summary(digest.hexdigest()[:20], counts, reasons, per_class, days)
        check_rejects(snapshot.rejected_per_class, samples, snapshot, data)
        _check(snapshot, data, source, whole)
        yield Listing(snapshot, examples_file, rejects_file)


def stored_snapshot(store: Store, id: str) -> Snapshot | None:
    """One that was taken before; None where it is gone."""
    summary = read_json(store, f"snapshots/{id}.json")
    return None if summary is None else Snapshot(**summary)


def read_snapshot(store: Store, snapshot: Snapshot, columns: list[str]) -> pa.Table:
    """Columns of the whole table."""
    with table_errors(f"{store.uri}{snapshot.key}"):
        filesystem, root = store.arrow()
        return pq.read_table(f"{root}/{snapshot.key}", columns=columns, filesystem=filesystem)


def check_rejects(
    rejected: dict[str, int], samples: dict[tuple[str, str], str], snapshot: Snapshot, data: Data
) -> None:
    """Raises DataError when more than `data.max_rejects` of a class was rejected.

    `rejected` counts them per class, `samples` has one key for each class and reason.
    """
    for label, count in sorted(rejected.items()):
        listed = sum(snapshot.counts[split].get(label, 0) for split in SPLITS)
        total = listed + snapshot.rejected_per_class.get(label, 0)
        if label and count > data.max_rejects * total:
            told = [f"{data.source.rstrip('/')}/{key}: {why}" for (of, why), key in samples.items() if of == label]
            raise DataError(
                f"{count} of {total} objects of class {label!r} can't be used, more than data.max_rejects "
                f"({data.max_rejects:.1%}) allows. Mend or remove them, or raise data.max_rejects. "
                f"For example {'; '.join(told[:SAMPLES])}."
            )


def _reject_by_size(item: Listed, data: Data) -> str | None:
    if item.size == 0:
        return "empty object"
    return f"larger than data.max_bytes ({data.max_bytes})" if item.size > data.max_bytes else None


def _summary(
    id: str, counts: Counter[tuple[str, str]], reasons: Counter[str], per_class: Counter[str], days: Counter[int]
) -> Snapshot:
    classes = sorted({label for _, label in counts})
    table = {split: {label: counts[split, label] for label in classes} for split in SPLITS}
    per_class.pop("", None)
    arrivals = {f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m-%d}": count for day, count in sorted(days.items())}
    rejects = dict(sorted(reasons.items())), dict(sorted(per_class.items()))
    return Snapshot(id, counts.total(), classes, table, *rejects, arrivals)


def _check(snapshot: Snapshot, data: Data, source: Store, whole: bool) -> None:
    if not snapshot.examples:
        found = "; ".join(f"{count} {reason}" for reason, count in snapshot.rejects.items())
        raise DataError(
            f"{source.uri}: no labelled examples were found ({found or 'the prefix is empty'}). "
            f"{WANTED.get(data.layout, 'data.packed says what the parts of a record are called.')}"
        )
    if not whole:
        return
    if len(snapshot.classes) < 2:
        raise DataError(
            f"{source.uri}: only one class, {snapshot.classes[0]!r}, was found: there is nothing to tell apart."
        )
    for label in snapshot.classes:
        if not snapshot.counts["train"][label]:
            if 2 * len(snapshot.classes) > snapshot.examples >= MANY:
                raise _labels_of_their_own(snapshot, data, source)
            raise DataError(f"Class {label!r} has no example on the train side of the split: add examples of it.")
    for split in SPLITS:
        if not sum(snapshot.counts[split].values()):
            raise DataError(f"The {split} split is empty ({snapshot.examples} examples in all): add examples.")


def _labels_of_their_own(snapshot: Snapshot, data: Data, source: Store) -> DataError:
    shown = " and ".join(f"'{label[:LETTERS]}{'…' if len(label) > LETTERS else ''}'" for label in snapshot.classes[:2])
    setting = {"folders": "the folders below the source", "table": "data.table.label"}.get(
        data.layout, "data.packed.label"
    )
    return DataError(
        f"{source.uri}: {snapshot.examples} examples have {len(snapshot.classes)} different labels, such as {shown}: "
        f"these are no classes. Look at {setting}."
    )


class _Rows:
    """Writes rows to a Parquet file, one row group per shard, in bounded memory."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [pa.array(column, field.type) for column, field in zip(zip(*self._rows), self._schema)]  # noqa: B905
            self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=ROWS)
            self._rows = []
