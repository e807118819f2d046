"""Names for the numbers of packed sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from job.config import Data
from job.data.snapshot import take_snapshot
from job.data.sources.label_names import LabelNames, named_in_part, read_names
from job.data.sources.packed import index_key, list_shards, write_index
from job.errors import DataError
from job.storage import Store, open_store
from support import shards

MAP = """
item { id: 1 name: "/m/01yrx" display_name: "cat" }
item {
  name: 'dog'  # without a name to show
  id: 2
  keypoints { id: 1 label: "nose" }
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/source/")


def names(source: Store, given: Any) -> LabelNames:
    found = read_names(Data(source=source.uri, layout="webdataset", packed={"names": given}), source)
    assert found is not None
    return found


def called(found: LabelNames, *labels: str) -> list[str | None]:
    return [found.name(label) for label in labels]


def test_a_list_a_mapping_and_nothing(source: Store) -> None:
    assert called(names(source, ["cat", "dog"]), "0", "1", "2", "dog", "x", "-1") == [
        "cat",
        "dog",
        None,
        "dog",
        None,
        None,
    ]
    assert called(names(source, {1: "cat", 7: "cat"}), "1", "7", "07") == ["cat", "cat", "cat"]
    assert read_names(Data(source=source.uri, layout="parquet"), source) is None


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("cat\ndog\n\n", 0),
        ("\ufeffcat\r\ndog\r\n", 0),
        ("0:cat\n1:dog\n", 0),
        ("3\tcat\n4\tdog", 3),
        ('["cat", "dog"]', 0),
        ('{"0": "cat", "1": "dog"}', 0),
        ('{"cat": 0, "dog": 1}', 0),
        (MAP, 1),
    ],
)
def test_a_file_of_any_usual_form_names_numbers(content: str, first: int, source: Store) -> None:
    source.write("labels", content.encode())
    for given in ("labels", f"{source.uri}labels"):
        found = names(source, given)
        assert called(found, *(str(first + i) for i in (-1, 0, 1, 2))) == [None, "cat", "dog", None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe\xff", "codec"),
        (b"[1, 2]", "its values are not names"),
        (b"{", "can't be read as names"),
        (b'{"x": "cat"}', "invalid literal"),
        (b"item { id: ", "can't be read as names"),
        (b"cat\ncat\n", r"0 and 1 are both called 'cat', and would be one class"),
    ],
)
def test_a_file_that_names_nothing_is_explained(content: bytes, said: str, source: Store) -> None:
    source.write("labels.txt", content)
    with pytest.raises(DataError, match=rf"data.packed.names: {source.uri}labels.txt.*{said}"):
        names(source, "labels.txt")


def test_a_file_that_is_not_there_is_named(source: Store) -> None:
    with pytest.raises(DataError, match=r"data.packed.names: file://.*labels.txt is not there"):
        names(source, "labels.txt")


def test_names_change_without_reading_a_shard_again(source: Store, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    image = shards.examples(1)[0][0]
    files = {f"{i}.{end}": content for i in range(60) for end, content in (("jpg", image), ("cls", b"%d" % (i % 3)))}
    source.write("a.tar", shards.tar_of(files))
    source.write("labels.txt", b"cat\ndog\n")
    keys = []
    for given, classes in (("labels.txt", ["cat", "dog"]), ({0: "a", 1: "b", 2: "b"}, ["a", "b"])):
        data = Data(source=source.uri, layout="webdataset", packed={"names": given}, max_rejects=1)
        (shard,) = list_shards(data, source)
        keys.append(index_key(data, source, shard))
        write_index(data, source, store, shard=shard.key, version=shard.version, key=keys[-1])
        snapshot = take_snapshot(data, source, store)
        assert snapshot.classes == classes
        nameless = {"its label has no name in data.packed.names": 20} if given == "labels.txt" else {}
        assert snapshot.rejects == nameless
        assert snapshot.left_out == ({} if given == "labels.txt" else {".txt": 1})
    assert len(set(keys)) == 1


def test_a_class_without_a_name_is_told_and_not_left_out(source: Store, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    image = shards.examples(1)[0][0]
    files = {f"{i}.{end}": content for i in range(60) for end, content in (("jpg", image), ("cls", b"%d" % (i % 3)))}
    source.write("a.tar", shards.tar_of(files))
    data = Data(source=source.uri, layout="webdataset", packed={"names": ["cat", "dog"]})
    (shard,) = list_shards(data, source)
    write_index(data, source, store, shard=shard.key, version=shard.version, key=index_key(data, source, shard))
    with pytest.raises(
        DataError, match=r"20 of 20 objects of class '2' can't be used.*has no name in data.packed.names"
    ):
        take_snapshot(data, source, store)


def test_numbers_beside_names_are_a_warning(source: Store, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    for name, kinds in (("a.tar", ("cat", "dog")), ("b.tar", ("0", "1"))):
        rows = [(image, kinds[number % 2]) for number, (image, _) in enumerate(shards.examples(60))]
        source.write(name, shards.webdataset_of(rows))
    data = Data(source=source.uri, layout="webdataset")
    for shard in list_shards(data, source):
        write_index(data, source, store, shard=shard.key, version=shard.version, key=index_key(data, source, shard))
    (caution,) = [one for one in take_snapshot(data, source, store).cautions if one.setting == "data.packed.label"]
    assert "some classes are numbers ('0', '1') and others names ('cat', 'dog')" in caution.text
    assert not list(named_in_part(data, ["0", "1", "a", "b"]))
    assert not list(named_in_part(Data(source=source.uri), ["0", "cat"]))


@pytest.mark.parametrize("given", [[1, 2], [True], {"cat": 0}, {"cat": "x"}, 7, [["a"]]])
def test_names_are_text(given: Any) -> None:
    with pytest.raises(ValueError, match=r"names are text: a list .*got "):
        Data(source="file:///s/", layout="webdataset", packed={"names": given})
