"""Single examples are found where they lie, in a folder or in a shard, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config import Data
from job.data import originals
from job.data.originals import CHANGED, read_originals
from job.data.snapshot import Snapshot, take_snapshot
from job.data.sources.packed import index_key, join_key, list_shards, make_index, open_shard, records_of
from job.storage import Store, open_store
from support.images import folder_of
from support.shards import MAKERS, examples


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    (tmp_path / "source").mkdir()
    return open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")


def packed(source: Store, store: Store, name: str) -> tuple[Data, Snapshot]:
    """Two shards of 30 pictures each."""
    layout, suffix, make = MAKERS[name]
    for number in range(2):
        source.write(f"part/{number}.{suffix}", make(examples(30, 30 * number)))
    data = Data(source=source.uri, layout=layout)  # type: ignore[arg-type]
    filesystem, root = source.arrow()
    for shard in list_shards(data, source):
        with open_shard(filesystem, f"{root}/{shard.key}", data) as file:
            store.write(index_key(data, source, shard), make_index(records_of(file, data, "")))
    return data, take_snapshot(data, source, store)


def test_objects_of_a_folder(stores: tuple[Store, Store]) -> None:
    source, store = stores
    files = folder_of(40)
    for key, content in files.items():
        source.write(key, content)
    data = Data(source=source.uri)
    snapshot = take_snapshot(data, source, store)
    gone, changed, here, *_ = files
    source.delete(gone)
    source.write(changed, b"something else")
    found = read_originals(data, source, store, snapshot=snapshot, keys=[here, gone, changed, "red/never listed.png"])
    assert found[here] == files[here]
    assert (found[gone], found[changed], found["red/never listed.png"]) == (CHANGED, CHANGED, CHANGED)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "tfrecord"])
def test_records_of_shards(name: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    data, snapshot = packed(source, store, name)
    suffix = MAKERS[name][1]
    keys = [join_key(f"part/{shard}.{suffix}", position) for shard, position in ((1, 29), (0, 3), (1, 0))]
    found = read_originals(data, source, store, snapshot=snapshot, keys=keys)
    pictures = [content for content, _ in examples(60)]
    assert [found[key] for key in keys] == [pictures[59], pictures[3], pictures[30]]
    source.write(f"part/1.{suffix}", b"another shard")
    assert list(read_originals(data, source, store, snapshot=snapshot, keys=keys).values()) == [
        CHANGED,
        pictures[3],
        CHANGED,
    ]


def test_a_record_deep_in_its_shard_is_not_looked_for(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = stores
    data, snapshot = packed(source, store, "webdataset")
    monkeypatch.setattr(originals, "DEEPEST", 20_000)
    near, far = join_key("part/0.tar", 0), join_key("part/0.tar", 29)
    found = read_originals(data, source, store, snapshot=snapshot, keys=[near, far])
    assert found[near] == examples(1)[0][0]
    assert "into its shard" in str(found[far])


def test_a_source_that_is_gone_is_a_reason(stores: tuple[Store, Store]) -> None:
    source, store = stores
    for key, content in folder_of(40).items():
        source.write(key, content)
    data = Data(source=source.uri)
    snapshot = take_snapshot(data, source, store)
    elsewhere = data.model_copy(update={"source": f"{source.uri}gone/"})
    key = next(iter(folder_of(1)))
    assert isinstance(
        read_originals(elsewhere, open_store(elsewhere.source), store, snapshot=snapshot, keys=[key])[key], str
    )
