"""An exported model's files are what was exported, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job.errors import ObjectMissing, StorageError
from job.export.checksums import MANIFEST, download_files, upload_files
from job.storage import Store, open_store


@pytest.fixture
def model(tmp_path: Path) -> Store:
    """Uploaded to runs/run/model/ of a store."""
    folder = tmp_path / "exported"
    (folder / "saved_model/variables").mkdir(parents=True)
    for name in ("labels.json", "saved_model/graph.pb", "saved_model/variables/data"):
        (folder / name).write_bytes(name.encode() * 1000)
    upload_files(open_store(f"file://{tmp_path}/store/"), "runs/run/model/", folder)
    return open_store(f"file://{tmp_path}/store/runs/run/model/")


def test_what_is_wanted_comes_back(model: Store, tmp_path: Path) -> None:
    model.write("saved_model/assets/extra.so", b"nobody exported this")
    download_files(model, ("saved_model/",), tmp_path / "here")
    here = tmp_path / "here"
    found = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert found == {"saved_model/graph.pb", "saved_model/variables/data"}
    assert (tmp_path / "here/saved_model/graph.pb").read_bytes() == b"saved_model/graph.pb" * 1000


@pytest.mark.parametrize("how", ["cut short", "empty", "tampered"])
def test_what_is_not_what_was_exported_is_refused_by_name(how: str, model: Store, tmp_path: Path) -> None:
    name = "saved_model/variables/data"
    content = model.read(name)
    model.write(name, {"cut short": content[:-1], "empty": b"", "tampered": b"S" + content[1:]}[how])
    with pytest.raises(StorageError, match=rf"model/{name} is not what was exported"):
        download_files(model, ("saved_model/",), tmp_path / "here")
    assert not (tmp_path / "here" / name).exists()
    download_files(model, ("labels.json",), tmp_path / "here")


def test_a_name_that_leaves_the_folder_is_refused(model: Store, tmp_path: Path) -> None:
    model.write(MANIFEST, json.dumps({"saved_model/../../../evil": "0" * 64}).encode())
    with pytest.raises(StorageError, match=r"files\.json names 'saved_model/\.\./\.\./\.\./evil'"):
        download_files(model, ("saved_model/",), tmp_path / "here")
    assert not (tmp_path / "evil").exists()


def test_what_is_gone_is_named(model: Store, tmp_path: Path) -> None:
    model.delete("saved_model/graph.pb")
    with pytest.raises(ObjectMissing, match=r"model/saved_model/graph\.pb is gone"):
        download_files(model, ("saved_model/",), tmp_path / "here")


def test_the_manifest_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    written: list[str] = []
    for verb in ("write", "upload"):
        put = getattr(store, verb)
        monkeypatch.setattr(store, verb, lambda key, content, put=put: (written.append(key), put(key, content)))
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/zzz").write_bytes(b"z")
    upload_files(store, "model/", tmp_path / "exported")
    assert written == ["model/zzz", f"model/{MANIFEST}"]
    assert json.loads(store.read(f"model/{MANIFEST}")).keys() == {"zzz"}
