from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.config import Data, Split, Table
from job.data.snapshot import read_snapshot, stored_snapshot, take_snapshot
from job.data.splits import split_of
from job.errors import DataError, StorageError
from job.storage import Skipped, Store, open_store
from job.storage.objects import Objects


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    (tmp_path / "source").mkdir()
    return open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")


def data(source: Store, **settings: object) -> Data:
    return Data(source=source.uri, **settings)


def fill(source: Store, examples: int, classes: tuple[str, ...] = ("a", "b")) -> None:
    for i in range(examples):
        source.write(f"{classes[i % len(classes)]}/{i:04d}.png", b"x" * (i + 1))


def test_the_same_listing_has_the_same_id(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, 60)
    first, second = take_snapshot(data(source), source, store), take_snapshot(data(source), source, store)
    assert first == second
    source.write("a/new.png", b"x")
    assert take_snapshot(data(source), source, store).id != first.id


@pytest.mark.parametrize("how", ["gone", "cut short", "empty"])
def test_a_broken_table_is_named(how: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, 60)
    snapshot = take_snapshot(data(source), source, store)
    content = store.read(snapshot.key)
    if how == "gone":
        store.delete(snapshot.key)
    else:
        store.write(snapshot.key, content[: len(content) // 2] if how == "cut short" else b"")
    with pytest.raises(StorageError, match=rf"{snapshot.key} (is not what was written|was deleted)"):
        read_snapshot(store, snapshot, ["key"])


def test_an_example_never_changes_sides_when_others_arrive(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, 60)
    before = read_snapshot(store, take_snapshot(data(source), source, store), ["key", "split"]).to_pylist()
    fill(source, 200)
    after = read_snapshot(store, take_snapshot(data(source), source, store), ["key", "split"]).to_pylist()
    sides = {row["key"]: row["split"] for row in after}
    assert all(sides[row["key"]] == row["split"] for row in before)
    assert len(after) == 200


def test_the_days_on_which_examples_were_written_are_counted(stores: tuple[Store, Store], tmp_path: Path) -> None:
    source, store = stores
    fill(source, 60)
    source.write("stray", b"no example")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    for number, path in enumerate(sorted((tmp_path / "source").rglob("*.png"))):
        os.utime(path, (noon, noon + 86_400 * (number % 3 == 0)))
    os.utime(tmp_path / "source/stray", (0, 0))
    snapshot = take_snapshot(data(source), source, store)
    assert snapshot.arrivals == {"2026-03-01": 40, "2026-03-02": 20}
    assert stored_snapshot(store, snapshot.id).arrivals == snapshot.arrivals  # type: ignore[union-attr]
    before = json.loads(store.read(f"snapshots/{snapshot.id}.json"))
    del before["arrivals"]
    store.write(f"snapshots/{snapshot.id}.json", json.dumps(before).encode())
    assert stored_snapshot(store, snapshot.id) == snapshot, "as earlier versions wrote it"


def test_sides_have_about_the_sizes_asked_for() -> None:
    sides = [split_of(f"class/{i}.png", Split()) for i in range(20_000)]
    assert abs(sides.count("train") / 20_000 - 0.70) < 0.015
    assert abs(sides.count("test") / 20_000 - 0.15) < 0.012


def test_every_listed_object_is_an_example_a_reject_or_left_out(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, 60)
    for key in ("readme.txt", "a/.hidden", "b/Thumbs.db", "stray.png", "gone.JPG"):
        source.write(key, b"x")
    snapshot = take_snapshot(data(source, max_rejects=0.1), source, store)
    assert (snapshot.examples, snapshot.cautions) == (60, [])
    assert snapshot.rejects == {"not in a class folder": 2}
    assert snapshot.left_out == {"hidden or of the system": 2, ".txt": 1}
    rejects = pq.read_table(io.BytesIO(store.read(f"snapshots/{snapshot.id}.rejects.parquet"))).to_pylist()
    assert {row["key"] for row in rejects} == {"stray.png", "gone.JPG"}


def test_too_many_empty_objects_of_a_class_stop_the_job(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, 60)
    source.write("a/empty.png", b"")
    with pytest.raises(DataError, match=r"1 of 31 objects of class 'a' can't be used.*max_rejects"):
        take_snapshot(data(source), source, store)
    assert take_snapshot(data(source, max_rejects=0.1), source, store).rejects == {"empty object": 1}


@pytest.mark.parametrize("form", ["csv", "parquet", "csv by URI"])
def test_a_table_gives_labels_and_groups(form: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    rows = {"key": [], "label": [], "module": []}
    for i in range(120):
        source.write(f"cell {i}.png", b"x")
        rows["key"].append(f"cell {i}.png")
        rows["label"].append(i % 2)
        rows["module"].append(f"m{i // 6}")
    source.write("unlabelled.png", b"x")
    buffer = io.BytesIO()
    if form.startswith("csv"):
        lines = ["key,label,module", *(f"{k},{x},{m}" for k, x, m in zip(*rows.values(), strict=True))]
        buffer.write("\n".join(lines).encode())
    else:
        pq.write_table(pa.table(rows), buffer)
    file, elsewhere = f"labels.{form.split()[0]}", form.endswith("URI")
    (store if elsewhere else source).write(file, buffer.getvalue())
    table = Table(file=store.uri + file if elsewhere else file, group="module")
    snapshot = take_snapshot(data(source, layout="table", table=table), source, store)
    assert (snapshot.examples, snapshot.classes) == (120, ["0", "1"])
    assert snapshot.rejects == {"not in the label file": 1}
    sides: dict[str, set[str]] = {}
    for row in read_snapshot(store, snapshot, ["key", "split"]).to_pylist():
        sides.setdefault(rows["module"][rows["key"].index(row["key"])], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())


def test_a_column_of_the_label_file_says_the_split(stores: tuple[Store, Store]) -> None:
    source, store = stores
    sides = {f"{i:02}.png": ("train", "validation", "test", "test")[i % 4] for i in range(40)}
    spelled = {"train": "Train", "validation": "val", "test": "test "}
    rows = [f"{key},{'ab'[int(key[0]) % 2]},{spelled[side]}" for key, side in sides.items()]
    source.write("labels.csv", "\n".join(["key,label,side", *rows]).encode())
    for key in sides:
        source.write(key, b"x")
    snapshot = take_snapshot(data(source, layout="table", table=Table(split="side")), source, store)
    found = read_snapshot(store, snapshot, ["key", "split"]).to_pylist()
    assert {row["key"]: row["split"] for row in found} == sides


def test_a_row_without_an_object_is_a_reject_of_its_class(stores: tuple[Store, Store]) -> None:
    source, store = stores
    source.write("labels.csv", b"key,label\n" + b"".join(f"{i}.png,{'ab'[i % 2]}\n".encode() for i in range(60)))
    for i in range(59):
        source.write(f"{i}.png", b"x")
    with pytest.raises(DataError, match=r"1 of 30 objects of class 'b'"):
        take_snapshot(data(source, layout="table"), source, store)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key,lable\na,b\n", r"data.table.label: .*labels.csv has no column 'label' \(nearest: 'lable'\)"),
        (b"key,label\na.png,x\na.png,y\n", "gives 'a.png' twice, as 'x' and 'y'"),
        (b"key,label\na,b,c\n", "labels.csv can't be read: line 2 has 3 cells, and the header 2"),
        (b"", "labels.csv is empty: the first row names the columns"),
        (None, "there is no label file"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_explained(
    content: bytes | None, message: str, stores: tuple[Store, Store]
) -> None:
    source, store = stores
    source.write("a.png", b"x")
    if content is not None:
        source.write("labels.csv", content)
    with pytest.raises(DataError, match=message):
        take_snapshot(data(source, layout="table"), source, store)


def test_one_class_or_none_is_refused(stores: tuple[Store, Store]) -> None:
    source, store = stores
    with pytest.raises(DataError, match="the prefix is empty"):
        take_snapshot(data(source), source, store)
    fill(source, 40, classes=("only",))
    with pytest.raises(DataError, match="only one class, 'only'"):
        take_snapshot(data(source), source, store)


@pytest.mark.slow
def test_a_long_listing_takes_bounded_memory(stores: tuple[Store, Store]) -> None:
    """A listing of 200,000 keys is never held: 40 MB of rows go through a few of memory."""
    source, store = stores
    fill(source, 60)
    take_snapshot(data(source), source, store)  # what is imported late is imported

    class Long:
        uri = "file:///long/"

        def pages(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[Objects]:
            for n in range(200):
                keys = [f"{'ab'[n >= 100]}/{'x' * 150}{i:09d}.png" for i in range(1000 * n, 1000 * (n + 1))]
                yield Objects(keys, [1000] * 1000, [f"{i:x}" for i in range(1000)], [None] * 1000)

        def folders(self, prefix: str = "", *, after: str = "") -> None:
            """It can't be divided."""

    tracemalloc.start()
    snapshot = take_snapshot(Data(source="file:///long/"), Long(), store)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert snapshot.examples == 200_000
    assert peak < 8 * 2**20
