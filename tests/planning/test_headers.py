"""What headers tell of a sample."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job.config import Data, Job, Train
from job.data.forms import image_form, text_form
from job.data.sources.packed import join_key
from job.errors import DataError
from job.planning.headers import GONE, HEADER, Looks, interval, look_at
from job.planning.listing import Row, sampled, seen
from job.storage import Store, open_store
from job.storage.read_only import OverlayStore
from support import shards
from support.images import encode, folder_of, picture
from support.kinds import READ, saved

FORM = image_form(32, "stretch", 1_000_000)


def rows_of(store: Store) -> list[Row]:
    return [Row(info.key, info.size, info.version, "a") for info in store.list()]


@pytest.fixture
def source(store_uri: str) -> Store:
    return open_store(store_uri)


def test_what_is_no_picture_is_found_and_the_rest_is_usable(source: Store) -> None:
    good = picture(0, "red")
    source.write("a/good.png", good)
    source.write("a/<b>text</b>.png", b"a text that is no picture")
    source.write("a/large.png", encode(np.zeros((1100, 1000, 3), "uint8")))
    rows = [*rows_of(source), Row("a/gone.png", 10, "1", "a")]
    found = look_at(Data(source=source.uri), FORM, source, rows=rows, most=8)
    assert found.sampled == 4
    assert found.usable == [good]
    large = "1000×1100 is more than data.max_pixels (1000000)"
    assert found.reasons == {"not an image: it is text": 1, GONE: 1, large: 1}


def test_a_header_beyond_the_first_bytes_is_read_with_the_whole_object(source: Store) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(0, "red", 500))).save(buffer, "JPEG", exif=exif, icc_profile=b"y" * 60_000)
    assert buffer.getvalue().find(b"\xff\xc0") > HEADER
    source.write("a/x.jpg", buffer.getvalue())
    source.write("a/y.webp", encode(np.random.default_rng(0).integers(0, 255, (300, 300, 3), "uint8"), "WEBP"))
    assert look_at(Data(source=source.uri), FORM, source, rows=rows_of(source), most=0).rejected == 0


def test_only_the_first_bytes_of_a_large_object_are_read(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400, 3), "uint8")
    source.write("a/x.png", encode(pixels))
    read: list[int] = []

    class Counting(OverlayStore):
        def read(self, key: str, version: str | None = None) -> bytes:
            raise AssertionError("read as a whole")

        def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
            read.append(len(content := super().read_first(key, count, version)))
            return content

    (tmp_path / "above").mkdir()
    counting = Counting(source, str(tmp_path / "above"))
    assert look_at(Data(source=source.uri), FORM, counting, rows=rows_of(source), most=0).rejected == 0
    assert read == [HEADER]


def test_texts_are_checked_for_their_encoding(source: Store) -> None:
    source.write("a/1.txt", "wörter".encode() * 20_000)
    source.write("a/2.txt", b"caf\xe9")
    found = look_at(Data(source=source.uri), text_form(8), source, rows=rows_of(source), most=8)
    assert found.reasons == {"not UTF-8 text (most likely Windows-1252; see data.encoding)": 1}


def test_further_pictures_and_bits_are_counted(source: Store) -> None:
    """Where the first bytes don't tell them, the whole is read."""
    large = np.random.default_rng(0).integers(0, 4096, (300, 300), np.uint16)
    frames = [Image.fromarray(large.astype("uint8")), Image.fromarray(large.astype("uint8").T)]
    source.write("a/0.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    source.write("a/1.png", saved(Image.fromarray(large), "PNG"))
    source.write("a/2.tif", saved(frames[0], "TIFF", save_all=True, append_images=frames))
    source.write("a/3.jpg", READ["MPO"]())
    found = look_at(Data(source=source.uri), FORM, source, rows=rows_of(source), most=0)
    assert found.looks == Looks(4, several=2, deep=1, values=(0, 4095, 16))
    assert look_at(Data(source=source.uri), text_form(8), source, rows=rows_of(source), most=0).looks == Looks()


def test_of_packed_pictures_they_are_counted_as_well(source: Store) -> None:
    rows = [(READ[kind](), "a") for kind in ("GIF, animated", "PNG, 16 bit", "JPEG")]
    source.write("0.tar", shards.webdataset_of(rows))
    data = Data(source=source.uri, layout="webdataset")
    found = look_at(data, FORM, source, rows=[Row(join_key("0.tar", 0), 1, "1", "a")], most=0)
    assert (found.looks.looked, found.looks.several, found.looks.deep) == (3, 1, 1)


def test_the_interval_of_a_rate() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(0, 256)[0] == 0
    assert 0.01 < interval(0, 256)[1] < 0.02
    low, high = interval(10, 100)  # Wilson's: 5.5 % to 17.4 %
    assert (round(low, 3), round(high, 3)) == (0.055, 0.174)


def pack(store: Store, shards: int, one_class_each: bool = False) -> None:
    """Shards of 20 pictures, of which the last is none."""
    for shard in range(shards):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number, (key, content) in enumerate(folder_of(20).items()):
                content = b"no picture" if number == 19 else content
                label = str(shard).encode() if one_class_each else key.partition("/")[0].encode()
                for name, part in ((f"{number:03d}.png", content), (f"{number:03d}.cls", label)):
                    info = tarfile.TarInfo(name)
                    info.size = len(part)
                    tar.addfile(info, io.BytesIO(part))
        store.write(f"{shard:03d}.tar", buffer.getvalue())


def job_of(data: Data, class_weights: dict[str, float] | None = None) -> Job:
    return Job(name="x", data=data, store="file:///store/", train=Train(class_weights=class_weights))


def test_packed_files_without_an_index_are_read_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = (open_store(f"file://{tmp_path}/{name}/") for name in ("source", "store"))
    pack(source, 4)
    data = Data(source=source.uri, layout="webdataset")
    size = max(info.size for info in source.list())
    monkeypatch.setattr("job.planning.listing.UNINDEXED", 2 * size)
    (tmp_path / "above").mkdir()
    with seen(job_of(data), source, OverlayStore(store, str(tmp_path / "above"))) as listed:
        assert listed.share == pytest.approx(0.5)
        assert listed.snapshot.examples == 40
        assert listed.snapshot.rejects == {}
        found = look_at(data, FORM, source, rows=sampled(listed), most=4)
    assert (found.sampled, found.reasons, len(found.usable)) == (40, {"not an image: it is text": 2}, 4)
    assert not (tmp_path / "store").exists()


def test_of_a_part_it_is_not_said_that_a_class_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = (open_store(f"file://{tmp_path}/{name}/") for name in ("source", "store"))
    pack(source, 4, one_class_each=True)
    monkeypatch.setattr("job.planning.listing.UNINDEXED", max(info.size for info in source.list()))
    (tmp_path / "above").mkdir()
    overlay = OverlayStore(store, str(tmp_path / "above"))
    with seen(job_of(Data(source=source.uri, layout="webdataset"), {"0": 2, "3": 1}), source, overlay) as listed:
        assert len(listed.snapshot.classes) == 1


def test_packed_files_that_are_too_large_for_a_plan_are_left_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = (open_store(f"file://{tmp_path}/{name}/") for name in ("source", "store"))
    pack(source, 2)
    monkeypatch.setattr("job.planning.listing.UNINDEXED", 1000)
    (tmp_path / "above").mkdir()
    data = Data(source=source.uri, layout="webdataset")
    with (
        pytest.raises(DataError, match="none of its 2 packed files has been read for its labels"),
        seen(job_of(data), source, OverlayStore(store, str(tmp_path / "above"))),
    ):
        pass
