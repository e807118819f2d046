"""Which objects are examples, whose names they have, and what a person is told of the rest."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from job.config import Data, Packed, Table
from job.data.items import Listed
from job.data.selection import Selection, is_hidden
from job.data.snapshot import Snapshot, read_snapshot, stored_snapshot, take_snapshot
from job.data.sources.packed import list_shards, without_index, write_index
from job.data.splits import split_above, split_called
from job.errors import DataError
from job.storage import Store, open_store
from support import shards
from support.listed import list_items


@pytest.fixture
def source(tmp_path: Path) -> Store:
    (tmp_path / "source").mkdir()
    return open_store(f"file://{tmp_path}/source/")


def put(source: Store, *keys: str, content: bytes = b"x") -> None:
    for key in keys:
        if source.uri.startswith("file://"):  # without waiting for the disk
            path = Path(source.uri.removeprefix("file://"), key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            source.write(key, content)


def numbered(pattern: str, count: int = 40) -> list[str]:
    return [pattern.format(number) for number in range(count)]


def take(source: Store, task: str = "image", **settings: object) -> Snapshot:
    data = Data(source=source.uri, **settings)  # type: ignore[arg-type]
    source = open_store(data.source, follow_links=data.follow_links)
    return take_snapshot(data, source, open_store(f"{source.uri[:-1]}-store/"), task=task)


def told(snapshot: Snapshot) -> str:
    return "\n".join(f"{caution.setting}: {caution.text}" for caution in snapshot.cautions)


def sides(source: Store, snapshot: Snapshot) -> dict[str, str]:
    table = read_snapshot(open_store(f"{source.uri[:-1]}-store/"), snapshot, ["key", "split"])
    return dict(zip(table["key"].to_pylist(), table["split"].to_pylist(), strict=True))


# what is an example


def test_pictures_among_other_files_are_the_examples(source: Store) -> None:
    put(
        source, *numbered("a/{}.png"), *numbered("b/{}.JPG"), *numbered("a/{}.txt", 9), "b/x.Ogg", "b/README", "c/1.dat"
    )
    snapshot = take(source)
    assert (snapshot.examples, snapshot.classes, snapshot.rejects) == (80, ["a", "b"], {})
    assert snapshot.left_out == {".txt": 9, ".ogg": 1, "without extension": 1, ".dat": 1}
    assert stored_snapshot(open_store(f"{source.uri[:-1]}-store/"), snapshot.id).left_out == snapshot.left_out  # type: ignore[union-attr]


def test_texts_have_extensions_of_their_own(source: Store) -> None:
    put(source, *numbered("a/{}.txt"), *numbered("b/{}.TXT"), "a/1.png")
    assert (take(source, "text").examples, take(source, "text").left_out) == (80, {".png": 1})


@pytest.mark.parametrize("key", [
    "thumbs.db", "Desktop.ini", "THUMBS.DB", "cat/ehthumbs.db", "cat/.hidden", ".git/cat/1.jpg", "__MACOSX/cat/1.jpg",
    "cat/._1.jpg", "cat/@eaDir/1.jpg@SynoEAStream", "cat/.ipynb_checkpoints/1.jpg", "_SUCCESS", "_temporary/0/1.jpg",
    "cat_$folder$", "cat/~$1.docx", "lost+found/1.jpg", "$RECYCLE.BIN/1.jpg", "#recycle/1.jpg", "_started_123",
    "_metadata", "cat/Icon\r", "System Volume Information/1.jpg",
])  # fmt: skip
def test_what_systems_leave_behind_is_never_an_example(key: str) -> None:
    everything = Data(source="file:///x/", include=["*"])
    assert Selection(everything, "image").left_out(key) == "hidden or of the system"
    assert not is_hidden("cat/_1.jpg")


def test_what_is_included_and_excluded_is_up_to_the_job_file(source: Store) -> None:
    put(source, *numbered("a/{}"), *numbered("b/{}"), *numbered("b/{}.jpg", 5), "a/7.JPG", "old/1.jpg")
    snapshot = take(source, include=["[ab]/*"], exclude="*.jpg")
    assert (snapshot.examples, snapshot.left_out) == (80, {"data.exclude": 7})
    assert take(source, include=["a/*", "b/?"], max_rejects=1.0).left_out == {"not in data.include": 36}
    assert "data.exclude: '*.gif' matches no key" in told(take(source, include=["a/*", "b/*"], exclude=["*.gif"]))


def test_a_label_file_names_examples_of_any_extension(source: Store) -> None:
    put(source, *numbered("{}.raw16"), "other.txt", "other.png", "7.bak")
    rows = [*(f"{key},{'ab'[at % 2]}" for at, key in enumerate(numbered("{}.raw16"))), "7.bak,a"]
    source.write("labels.csv", "\n".join(["key,label", *rows]).encode())
    snapshot = take(source, layout="table", exclude=["*.bak"])
    assert (snapshot.examples, snapshot.rejects) == (40, {"not in the label file": 1})
    assert snapshot.left_out == {".txt": 1, "data.exclude": 1}


def test_kinds_that_are_left_out_are_bounded(source: Store) -> None:
    put(source, *numbered("a/{}.png"), *numbered("b/{}.png"), *(f"a/1.x{number:03}" for number in range(100)))
    left_out = take(source).left_out
    assert (len(left_out), left_out["of other kinds"], sum(left_out.values())) == (65, 36, 100)


# where there is none


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (numbered("{}.jpg", 3), "0.jpg, 1.jpg, 2.jpg are in no class folder.*data.layout: table reads the labels"),
        (numbered("a/{}", 3), r'a/0, a/1, a/2: data.include: \["\*"\] takes them as examples'),
        (numbered("a/{}.dat", 9), r'a/0.dat, a/1.dat, a/2.dat: data.include: \["\*.dat"\] takes them'),
        (
            numbered("all/cat/{}.jpg") + numbered("all/dog/{}.jpg"),
            r"'cat', 'dog' \(all/cat/0.jpg, all/cat/1.jpg, all/cat/10.jpg\): data.source: .*/source/all/ makes",
        ),
        (
            numbered("x/y/cat/{}.jpg") + numbered("x/y/dog/{}.jpg"),
            r"data.source: .*/source/x/y/ makes them the classes\.",
        ),
        (
            numbered("x/train/a/{}.jpg") + numbered("x/val/a/{}.jpg"),
            r"/x/ makes them the classes with data.split: folders",
        ),
        (numbered("a/{}.jpg"), r"only one class, 'a', was found: there is nothing to tell apart\.$"),
        ([".x"], r"1 hidden or of the system left out\). data.layout folders wants CLASS/… below the source"),
    ],
)
def test_a_source_without_examples_says_what_was_there_and_what_reads_it(
    keys: list[str], said: str, source: Store
) -> None:
    put(source, *keys)
    with pytest.raises(DataError, match=said):
        take(source)


def test_links_that_are_not_followed_are_told(source: Store, tmp_path: Path) -> None:
    elsewhere = open_store(f"file://{tmp_path}/elsewhere/")
    put(elsewhere, *numbered("cat/{}.jpg"), *numbered("dog/{}.jpg"))
    for label in ("cat", "dog"):
        (tmp_path / "source" / label).symlink_to(tmp_path / "elsewhere" / label)
    with pytest.raises(DataError, match=r"2 links are not followed \('cat', 'dog'\): data.follow_links: true"):
        take(source)
    assert take(source, follow_links=True).examples == 80
    put(source, *numbered("a/{}.jpg"), *numbered("b/{}.jpg"))
    assert "data.follow_links: 2 links are not followed ('cat', 'dog')" in told(take(source))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["train.zip", "README.md"], "There is train.zip: unpack it"),
        (["a/1.pdf", "b/2.pdf"], "There is a/1.pdf: convert it"),
        (["data/0.parquet"], "There is data/0.parquet: data.layout: parquet reads it"),
        ([*numbered("images/{}.jpg"), "labels.csv"], "data.layout: table reads .*: there is labels.csv"),
    ],
)
def test_what_else_may_hold_the_examples_is_named(keys: list[str], said: str, source: Store) -> None:
    put(source, *keys)
    with pytest.raises(DataError, match=said):
        take(source)


def test_settings_that_leave_nothing_are_named(source: Store) -> None:
    put(source, *numbered("a/{}.jpg"), *numbered("b/{}.jpg"))
    with pytest.raises(DataError, match=r"data.exclude leaves out a/0.jpg, a/1.jpg, a/10.jpg\."):
        take(source, exclude=["*"])
    with pytest.raises(
        DataError, match=r"a/0.jpg, a/1.jpg, a/10.jpg are in no folder at this place: .*data.class_folder \(3\)"
    ):
        take(source, class_folder=3)


def test_more_that_is_left_out_than_used_is_told(source: Store) -> None:
    put(source, *numbered("a/{}"), *numbered("b/{}"), *numbered("a/{}.jpg", 20), *numbered("b/{}.jpg", 20))
    assert 'data.include: 80 without extension (a/0) are left out, and 40 are examples: data.include: ["*"]' in told(
        take(source)
    )


def test_a_glob_that_matches_nothing_is_told_by_itself(source: Store) -> None:
    put(source, *numbered("a/{}.jpg"), *numbered("b/{}.jpg"))
    found = told(take(source, include=["a/*", "b/*", "c/*", "*.png"], exclude=["a/7.*", "d/*"]))
    assert found.splitlines() == [
        "data.include: 'c/*' matches no key: nothing is changed by it.",
        "data.exclude: 'd/*' matches no key: nothing is changed by it.",
    ]


# published divisions


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Training", "train"), ("train2017", "train"), ("train_set", "train"), ("val", "validation"),
     ("VALID", "validation"), ("dev", "validation"), ("Test Data", "test"), ("testing", "test"), ("trains", None),
     ("partial-train", "train"), ("tested", None), ("developer", None), ("trainer", None)],
)  # fmt: skip
def test_the_usual_spellings_of_splits_are_known(name: str, split: str | None) -> None:
    assert split_called(name) == split
    assert split_above(f"x/{name}/1.jpg") == split


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Testing"), ("train", "valid", "unlabeled")])
def test_a_published_division_is_not_taken_for_classes(names: tuple[str, ...], source: Store) -> None:
    for name in names:
        put(source, *numbered(f"{name}/cat/{{}}.jpg", 9), *numbered(f"{name}/dog/{{}}.jpg", 9))
    with pytest.raises(DataError, match=r"parts of a published division, not classes. data.split: folders takes them"):
        take(source)


@pytest.mark.parametrize(
    "names", [("seg_train", "seg_test"), ("x_train", "x_val"), ("20news-bydate-train", "20news-bydate-test")]
)
def test_parts_of_a_division_may_have_more_in_their_names(names: tuple[str, ...], source: Store) -> None:
    for name in names:
        put(source, *numbered(f"{name}/a/{{}}.jpg", 200), *numbered(f"{name}/steam train/{{}}.jpg", 200))
    with pytest.raises(DataError, match=rf"{names[0]} and {names[1]} are the parts of a published division"):
        take(source)
    snapshot = take(source, split="folders")
    assert snapshot.classes == ["a", "steam train"]
    assert sum(snapshot.counts[str(split_above(f"{names[1]}/a/1"))].values()) == 400


@pytest.mark.parametrize(
    "names", [("train_station", "test_tube", "bullet train"), ("train", "bus", "car"), ("test", "control")]
)
def test_classes_that_are_called_a_little_like_a_split_are_classes(names: tuple[str, ...], source: Store) -> None:
    for name in names:
        put(source, *numbered(f"{name}/{{}}.jpg"))
    assert (take(source).classes, told(take(source))) == (sorted(names), "")


def test_a_folder_that_was_unpacked_into_one_of_its_name_is_no_class(source: Store) -> None:
    for part in ("training_set", "test_set"):
        for label in ("cat", "dog"):
            put(source, *numbered(f"{part}/{part}/{label}/{{}}.jpg"))
    with pytest.raises(DataError, match=r"data.split: folders and data.class_folder: 2 takes them.*'cat', 'dog'"):
        take(source)
    with pytest.raises(DataError, match=r"training_set and test_set are there twice.*data.class_folder: 2 takes"):
        take(source, split="folders")
    assert take(source, split="folders", class_folder=2).classes == ["cat", "dog"]


def test_a_copy_of_a_division_below_itself_is_told(source: Store) -> None:
    for above in ("", "xray/"):
        for part in ("train", "test"):
            put(source, *numbered(f"{above}{part}/a/{{}}.jpg", 9), *numbered(f"{above}{part}/b/{{}}.jpg", 9))
    with pytest.raises(DataError, match=r"'xray' would be a class. Leave out one kind: data.exclude: ..xray/"):
        take(source, split="folders")


def test_a_published_division_without_class_folders_wants_a_table(source: Store) -> None:
    put(source, *numbered("train/{}.jpg"), *numbered("test/{}.jpg"))
    with pytest.raises(
        DataError, match=r"no folders of classes below them \(test/0.jpg, test/1.jpg, test/10.jpg\): data.layout: table"
    ):
        take(source)


@pytest.mark.parametrize("pattern", ["{part}/{label}/{number}.jpg", "{label}/{part}/{number}.jpg"])
def test_a_published_division_is_the_split(pattern: str, source: Store) -> None:
    for part in ("train", "val", "test"):
        for number in range(9):
            put(source, *(pattern.format(part=part, label=label, number=number) for label in ("cat", "dog")))
    put(source, "extra/cat/1.jpg")
    snapshot = take(source, split="folders")
    assert snapshot.counts == {split: {"cat": 9, "dog": 9} for split in ("train", "validation", "test")}
    assert snapshot.left_out == {"in no folder of the split": 1}
    assert all(split_above(key) == split for key, split in sides(source, snapshot).items())


@pytest.mark.parametrize(("part", "missing"), [("test", "validation"), ("val", "test")])
def test_what_a_published_division_lacks_is_taken_from_train(part: str, missing: str, source: Store) -> None:
    for label in ("cat", "dog"):
        put(source, *numbered(f"train/{label}/{{}}.jpg", 200), *numbered(f"{part}/{label}/{{}}.jpg", 9))
    snapshot = take(source, split="folders")
    published = split_called(part)
    assert snapshot.counts[str(published)] == {"cat": 9, "dog": 9}
    found = sides(source, snapshot)
    taken = {key for key, split in found.items() if split == missing}
    assert len(taken) == sum(snapshot.counts[missing].values())
    assert 35 < len(taken) < 90
    assert all(key.startswith("train/") for key in taken)
    assert f"nothing is given for {missing}: 15% of train take its place" in told(snapshot)
    put(source, *numbered(f"{missing}/cat/{{}}.jpg", 3), *numbered(f"{missing}/dog/{{}}.jpg", 3))
    assert take(source, split="folders").counts["train"] == {"cat": 200, "dog": 200}


def test_a_division_below_the_classes_is_told_when_it_is_not_used(source: Store) -> None:
    for part in ("train", "test"):
        put(source, *numbered(f"cat/{part}/{{}}.jpg"), *numbered(f"dog/{part}/{{}}.jpg"))
    assert "data.split: train and test below the classes are the parts of a published division" in told(take(source))


def test_shards_and_tables_have_published_divisions_too(source: Store) -> None:
    packed = Data(source=source.uri, layout="webdataset", split="folders")
    store = open_store(f"{source.uri[:-1]}-store/")
    put(
        source,
        "x-train-0.tar",
        "x-val-0.tar",
        "test/0.tar",
        "x-0.tar",
        content=shards.webdataset_of(shards.examples(12)),
    )
    for key, shard in without_index(packed, source, store, shards=list_shards(packed, source)).items():
        write_index(packed, source, store, shard=shard.key, version=shard.version, key=key)
    snapshot = take_snapshot(packed, source, store)
    assert {split: sum(of.values()) for split, of in snapshot.counts.items()} == dict.fromkeys(snapshot.counts, 12)
    assert snapshot.left_out == {"in no folder of the split": 12}
    put(source, *numbered("train/{}.jpg"), *numbered("dev/{}.jpg"), *numbered("test/{}.jpg"))
    keys = [key for part in ("train", "dev", "test") for key in numbered(f"{part}/{{}}.jpg")]
    rows = [f"{key},{'ab'[at % 2]}" for at, key in enumerate(keys)]
    source.write("labels.csv", "\n".join(["key,label", *rows]).encode())
    snapshot = take(source, layout="table", split="folders")
    assert {split: sum(of.values()) for split, of in snapshot.counts.items()} == dict.fromkeys(snapshot.counts, 40)
    with pytest.raises(ValueError, match="`split: folders` goes by the keys of objects"):
        Data(source=source.uri, layout="table", split="folders", table=Table(split="side"))


# classes


def test_a_deeper_folder_may_be_the_class(source: Store) -> None:
    for camera in ("north", "south"):
        put(source, *numbered(f"{camera}/cat/{{}}.jpg"), *numbered(f"{camera}/dog/{{}}.jpg"))
    snapshot = take(source)
    assert snapshot.classes == ["north", "south"]
    assert "data.class_folder: the 2 classes have the same folders below them ('cat', 'dog')" in told(snapshot)
    for place in (2, -1):
        assert (found := take(source, class_folder=place)).classes == ["cat", "dog"]
        assert told(found) == ""
    put(source, *numbered("cat/{}.jpg"))
    assert take(source, class_folder=2).rejects == {"not in a class folder": 40}


def test_deeper_folders_that_all_classes_have_are_told_too(source: Store) -> None:
    for top in ("fold_1", "fold_2"):
        put(source, *numbered(f"{top}/2021-01/{{}}.jpg", 9), *numbered(f"{top}/2021-02/{{}}.jpg", 9))
    assert "data.class_folder" not in told(take(source))
    for top in ("fold_1", "fold_2"):
        put(source, *numbered(f"{top}/images/cat/{{}}.jpg", 9), *numbered(f"{top}/images/dog/{{}}.jpg", 9))
    assert (
        "the same folders below them ('cat', 'dog'): where those are the classes, write data.class_folder: 3"
        in told(take(source))
    )


def test_folds_that_are_divided_each_are_told(source: Store) -> None:
    for top in ("fold_1", "fold_2"):
        for part in ("train", "val", "test"):
            put(source, *numbered(f"{top}/{part}/cat/{{}}.jpg", 9), *numbered(f"{top}/{part}/dog/{{}}.jpg", 9))
    assert "('cat', 'dog'): where those are the classes, write data.class_folder: 2" in told(
        take(source, split="folders")
    )
    assert told(take(source, split="folders", class_folder=2)) == ""


def test_a_folder_without_a_name_is_no_class(s3_bucket: object) -> None:
    source = open_store(f"s3://{s3_bucket()}/")  # type: ignore[operator]
    put(source, *numbered("img//cat/{}.jpg", 3), *numbered("img/bird/{}.jpg", 30), *numbered("img/cow/{}.jpg", 30))
    data = Data(source=f"{source.uri}img/")
    found = [item for item in list_items(data, open_store(data.source)) if item.reject]
    assert {(item.key, item.label, item.reject) for item in found} == {
        (f"/cat/{number}.jpg", None, "in a class folder without a name (a double slash)") for number in range(3)
    }
    snapshot = take_snapshot(data, open_store(data.source), open_store(f"{source.uri}store/"))
    assert "3 of 63 have no class: in a class folder without a name (a double slash) (for example /cat/" in told(
        snapshot
    )


def test_blanks_at_the_ends_of_a_name_are_none_of_it(source: Store) -> None:
    put(source, *numbered("{}.jpg", 80))
    names = ["cat", "cat ", "\u00a0cat", "\ufeffdog", "dog\u200b", "dog", "  ", ""]
    rows = [f"{number}.jpg,{names[number % 8]}" for number in range(80)]
    source.write("labels.csv", "\n".join(["key,label", *rows]).encode())
    snapshot = take(source, layout="table")
    assert (snapshot.classes, snapshot.rejects) == (["cat", "dog"], {"no label": 20})
    assert "data: 20 of 80 have no class: no label (for example" in told(snapshot)


@pytest.mark.parametrize("names", [("Cat", "cat"), ("é", unicodedata.normalize("NFD", "é")), ("hot dog", "hot_dog")])
def test_names_that_a_person_would_call_the_same_are_told(names: tuple[str, str], source: Store) -> None:
    put(source, *(f"{name}/{number}.jpg" for name in (*names, "other") for number in range(30)))
    snapshot = take(source)
    assert set(snapshot.classes) == {*names, "other"}
    assert "are 2 classes whose names differ in case, blanks or Unicode form alone" in told(snapshot)
    assert "'other'" not in told(snapshot)


def test_a_class_that_is_called_as_no_value_is_told(source: Store) -> None:
    put(source, *numbered("a/{}.jpg"), *numbered("NaN/{}.jpg"))
    assert "a class is called 'NaN', as programs write where there is no value" in told(take(source))


def test_shards_that_are_excluded_are_left_out(source: Store) -> None:
    content = shards.webdataset_of(shards.examples(40))
    put(source, "a.tar", "b.tar", content=content)
    data = Data(source=source.uri, layout="webdataset", packed=Packed(), exclude=["b*"])
    items: list[Listed] = list_items(data, source, open_store(f"{source.uri[:-1]}-store/"))
    assert [(item.key, item.left_out) for item in items if item.left_out] == [("b.tar", "data.exclude")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat", "cat - Copy"), "'cat', 'cat - Copy' are 2 classes"),
        (("0", "0.0", "1"), "'0', '0.0' are 2 classes"),
        (("cat", "dog", "cat|dog"), "made of those of others ('cat|dog')"),
        (
            ("pos", "neg", "unsup"),
            "called 'unsup', as folders are beside those of classes: if it is none, data.exclude: [\"unsup/*\"]",
        ),
    ],
)
def test_names_that_are_likely_to_be_no_class_are_told(names: tuple[str, ...], said: str, source: Store) -> None:
    for name in names:
        put(source, *numbered(f"{name}/{{}}.jpg"))
    assert said in told(take(source))


def test_a_class_that_is_spelled_otherwise_in_train_is_told(source: Store) -> None:
    put(source, *numbered("train/Cat/{}.jpg"), *numbered("train/Dog/{}.jpg"), *numbered("test/cat/{}.jpg"))
    with pytest.raises(DataError, match=r"Class 'cat' \(nearest: 'Cat'\) has examples \(test/cat/0.jpg\), but no"):
        take(source, split="folders")


def test_groups_that_leave_a_split_empty_are_named(source: Store) -> None:
    put(source, *numbered("{}.jpg"))
    rows = [f"{key},{'ab'[at % 2]},all" for at, key in enumerate(numbered("{}.jpg"))]
    source.write("labels.csv", "\n".join(["key,label,who", *rows]).encode())
    with pytest.raises(DataError, match=r"Equal values of data.table.group \(who\) stay on one side"):
        take(source, layout="table", table=Table(group="who"))
