"""Ray's folder, token and home on machines that are strict."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from job.errors import ClusterError
from job.executors.ray import folder as folders
from job.executors.ray.folder import LONGEST, SOCKET, ensure_home, own_token, ray_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, of a path that is too long for Ray's sockets."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return long


def test_a_folder_whose_sockets_would_have_too_long_names_gets_a_short_one(place: Path) -> None:
    with ray_folder() as folder:
        assert len(folder + SOCKET) <= LONGEST
        os.makedirs(f"{folder}/session")
        assert (place / "ray/session").is_dir(), "what takes room is where it was to be"
    assert not Path(folder).exists()


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", None])
def test_a_folder_of_a_short_name_is_taken_as_it_is(
    variable: str | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "/mine")
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/mine")
    with ray_folder() as folder:
        assert folder == "/mine/ray"


def test_where_no_short_one_can_be_made_the_limit_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SHORT", "/absent")
    with pytest.raises(ClusterError, match=r"long.*107 bytes.*set RAY_TMPDIR to a shorter folder"), ray_folder():
        pass


def test_ray_gets_a_token_unless_a_person_has_seen_to_that(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "mine")
        own_token()
        assert os.environ[name] == "mine"
        monkeypatch.delenv(name)
        assert "RAY_AUTH_TOKEN" not in os.environ
    own_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_who_has_no_home_gets_one_that_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/mine")
    ensure_home()
    assert os.environ["HOME"] == "/mine"

    def unknown() -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    ensure_home()
    assert os.environ["HOME"] == tempfile.gettempdir()
