"""Keys of a label file that are spelled other than the source has them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest

from job.config import Data
from job.data.caution import Caution
from job.data.items import Listed
from job.data.snapshot import take_snapshot
from job.data.sources.keys import Resolved, resolve_keys
from job.errors import DataError
from job.storage import open_store
from support.listed import list_items

NFD = unicodedata.normalize("NFD", "kätzchen.jpg")


def resolved(table: list[str], listed: list[str], source: str = "s3://bucket/pets/", batch: int = 2) -> Resolved:
    ordered = sorted(listed)
    batches = [pa.array(ordered[at : at + batch]) for at in range(0, len(ordered), batch)]
    return resolve_keys(pa.array(sorted(table)), lambda: batches, source)


@pytest.mark.parametrize(
    ("key", "listed", "way"),
    [
        ("./a.jpg", "a.jpg", "without blanks"),
        ("/a.jpg", "a.jpg", "without blanks"),
        (" a.jpg ", "a.jpg", "without blanks"),
        ("x\\a.jpg", "x/a.jpg", "without blanks"),
        ("s3://bucket/pets/x/a.jpg", "x/a.jpg", "without blanks"),
        ("s3a://bucket/pets/a.jpg", "a.jpg", "without blanks"),
        ("https://bucket.s3.amazonaws.com/pets/a%20b.jpg", "a b.jpg", "without blanks"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/pets/a.jpg", "a.jpg", "without blanks"),
        ("https://minio.example/bucket/pets/a.jpg", "a.jpg", "without its first 3 folders"),
        (NFD, "kätzchen.jpg", "in another Unicode form"),
        ("kätzchen.jpg", NFD, "in another Unicode form"),
        ("A.JPG", "a.jpg", "in another case"),
        ("./" + NFD.upper(), "kätzchen.jpg", "in another case"),
        ("a", "a.jpg", "without an extension"),
        ("a.png", "a.jpg", "with another extension"),
        ("a.v2", "a.v2.jpg", "without an extension"),
        ("7", "0007.jpg", "without zeros in front"),
        ("pets/a.jpg", "a.jpg", "without its first folder"),
        ("s3://bucket/other/a.jpg", "a.jpg", "without its first 2 folders"),
        ("C:\\data\\pets\\a.jpg", "a.jpg", "without its first 3 folders"),
        ("a.jpg", "x/y/a.jpg", "below its first 2 folders of the source"),
        ("a", "x/a.jpg", "below its first folder of the source, without an extension"),
        ("pets/a", "a.jpg", "without its first folder and an extension"),
    ],
)
def test_a_key_is_found_however_it_is_spelled(key: str, listed: str, way: str) -> None:
    found = resolved([key], [listed, "z/other.txt"])
    assert found.keys.to_pylist() == [listed]
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"matched {way}")
    assert found.notes[0].endswith(f": 1 of its 1 keys ({key!r} is {listed!r})")


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("gs://bucket/pets/", "gs://bucket/pets/a.jpg"),
        ("gs://bucket/pets/", "https://storage.googleapis.com/bucket/pets/a.jpg"),
        ("gs://bucket/", "gs://bucket/a.jpg"),
        ("file:///data/my pets (1)/", "/data/my pets (1)/a.jpg"),
        ("file:///data/pets/", "file:///data/pets/a.jpg"),
        ("file:///data/my pets/", "file:/data/my%20pets/a.jpg"),
    ],
)
def test_the_uri_of_the_source_is_no_part_of_a_key(source: str, key: str) -> None:
    assert resolved([key], ["a.jpg"], source).keys.to_pylist() == ["a.jpg"]


def test_an_exact_key_counts_before_every_other_spelling() -> None:
    keys = ["./a.jpg", "A.JPG", "a", "a.jpg", "a.png"]
    assert resolved(keys, keys) == Resolved(pa.array(sorted(keys)), False, [])


def test_a_loose_match_is_not_looked_for_where_most_keys_are_found() -> None:
    listed = [f"{number}.jpg" for number in range(9)]
    found = resolved([*listed[:8], "8.png"], listed)
    assert found.keys.to_pylist() == [*listed[:8], "8.png"]
    assert found.notes == ["no object has 1 of its 9 keys: it has '8.png', and the source '8.jpg', which no row names"]


def test_strict_ways_hold_for_single_keys() -> None:
    listed = [f"{number}.jpg" for number in range(9)]
    found = resolved([*listed[:7], "7.JPG", "./8.jpg"], listed)
    assert sorted(found.keys.to_pylist()) == listed
    assert len(found.notes) == 2


def test_where_keys_are_spelled_loosely_each_is_looked_for_in_every_way() -> None:
    """A spreadsheet makes numbers of names."""
    listed = [f"{number:02d}.jpg" for number in range(1, 40)]
    found = resolved([str(number) for number in range(1, 40)], listed)
    assert sorted(found.keys.to_pylist()) == listed
    assert [note.partition(" (")[0] for note in found.notes] == [
        "matched without an extension: 30 of its 39 keys",
        "matched without zeros in front: 9 of its 39 keys",
    ]


def test_a_rest_that_is_ambiguous_is_left_where_most_keys_are_found() -> None:
    found = resolved(["1", "2", "3"], ["1.jpg", "2.jpg", "a/3.jpg", "b/3.jpg"])
    assert found.keys.to_pylist() == ["1.jpg", "2.jpg", "3"]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_two_objects_for_one_key_are_both_named(batch: int) -> None:
    with pytest.raises(DataError, match=r"'b' may be 'b\.jpg' or 'b\.txt' of the source, matched without an extension"):
        resolved(["a", "b"], ["a.jpg", "b.jpg", "b.txt"], batch=batch)
    with pytest.raises(DataError, match=r"'a\.jpg' may be 'x/a\.jpg' or 'y/a\.jpg'"):
        resolved(["a.jpg"], ["x/a.jpg", "y/a.jpg", "z.jpg"], batch=batch)


def test_where_nothing_matches_a_key_is_shown_beside_one_of_the_source() -> None:
    with pytest.raises(
        DataError, match=r"none of the label file's 2 keys is .*'cat_01\.jpg', and the source 'cat-01\.jpg'"
    ):
        resolved(["cat_01.jpg", "cat_02.jpg"], ["cat-01.jpg", "dog.txt"])
    with pytest.raises(DataError, match="none of the label file's 1 keys"):
        resolved(["a"], [])


def listing(folder: Path, rows: str, *keys: str) -> tuple[list[Listed], list[str]]:
    source, notes = open_store(f"file://{folder}/"), list[Caution]()
    for key in keys:
        source.write(key, b"x")
    source.write("labels.csv", f"key,label\n{rows}".encode())
    data = Data(source=source.uri, layout="table")
    return list_items(data, source, note=notes.append), [note.text for note in notes]


def test_a_listing_with_other_spellings_is_in_the_order_of_its_keys(tmp_path: Path) -> None:
    found, notes = listing(tmp_path, "b,cat\nC,dog\na,cat\nz,cat\n,\n,dog\n", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    assert [(item.key, item.label, item.reject) for item in found] == [
        ("", "dog", "a row of the label file without a key"),
        ("a.jpg", "cat", None),
        ("b.jpg", "cat", None),
        ("c.jpg", "dog", None),
        ("d.jpg", None, "not in the label file"),
        ("z", "cat", "in the label file, but not in the source"),
    ]
    assert [note.removeprefix(f"file://{tmp_path}/labels.csv: ") for note in notes] == [
        "matched without an extension: 3 of its 4 keys ('C' is 'c.jpg').",
        "no object has 1 of its 4 keys: it has 'z', and the source 'd.jpg', which no row names.",
    ]


def test_two_rows_that_mean_one_object_say_the_same_or_are_refused(tmp_path: Path) -> None:
    found, _ = listing(tmp_path, "./a.jpg,cat\n/a.jpg,cat\n", "a.jpg")
    assert [(item.key, item.label) for item in found] == [("a.jpg", "cat")]
    with pytest.raises(DataError, match=r"gives 'a\.jpg' twice, as '(cat|dog)' and '(cat|dog)'"):
        listing(tmp_path, "./a.jpg,cat\n/a.jpg,dog\n", "a.jpg")


def test_a_table_without_any_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has a key"):
        listing(tmp_path, ",cat\n", "a.jpg")


def test_a_snapshot_has_what_was_assumed_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    for number in range(60):
        source.write(f"{number}.jpg", b"x")
    rows = "".join(
        f"{number},{'Käfer' if number % 2 else 'nan' if number == 30 else 'Ameise'}\n" for number in range(60)
    )
    source.write("labels.csv", f"key,label\n{rows}".encode("cp1252"))
    snapshot = take_snapshot(Data(source=source.uri, layout="table"), source, store)
    assert snapshot.classes == ["Ameise", "Käfer"]
    assert snapshot.rejects == {"no label": 1}
    assert [
        told.text.removeprefix(f"{source.uri}labels.csv") for told in snapshot.cautions if told.setting == "data.table"
    ] == [
        " is not UTF-8: it was read as Windows-1252 (`data.encoding` names another encoding).",
        " has labels such as 'nan' in 1 of 60 rows, which count as none.",
        ": matched without an extension: 60 of its 60 keys ('0' is '0.jpg').",
    ]
