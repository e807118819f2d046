"""What a person has set up for boto3 holds for all that is read and written, by Arrow as well."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from job.storage import Store, open_store

PROFILES = {
    "endpoint": "endpoint_url = {url}\n{keys}",
    "services": "services = here\n{keys}\n[services here]\ns3 =\n  endpoint_url = {url}\n",
    "path style": "endpoint_url = {url}\ns3 =\n  addressing_style = path\n{keys}",
    "role": "endpoint_url = {url}\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
    "[profile base]\n{keys}",
}
KEYS = "aws_access_key_id = x\naws_secret_access_key = y\n"


@pytest.fixture
def profile(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a profile the only thing that knows the server and the credentials."""

    def use(content: str) -> None:
        content = content.format(url=s3_server, keys=KEYS)
        (tmp_path / "config").write_text(f"[profile own]\nregion = us-east-1\n{content}")
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "own")

    return use


def read_by_arrow(store: Store, key: str) -> bytes:
    filesystem, root = store.arrow()
    with filesystem.open_input_file(f"{root}/{key}") as file:
        return file.read()


@pytest.mark.parametrize("content", PROFILES.values(), ids=PROFILES)
def test_a_profile_says_where_the_store_is(
    content: str, s3_bucket: Callable[[], str], profile: Callable[[str], None]
) -> None:
    bucket = s3_bucket()
    profile(content)
    store = open_store(f"s3://{bucket}/in/")
    store.write("key", b"here")
    assert [info.key for info in store.list()] == ["key"]
    assert (store.read("key"), read_by_arrow(store, "key")) == (b"here", b"here")


def test_credentials_that_expire_are_renewed_while_arrow_reads(
    s3_bucket: Callable[[], str], profile: Callable[[str], None], tmp_path: Path
) -> None:
    bucket, asked = s3_bucket(), tmp_path / "asked"
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    keys = {"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "y", "SessionToken": "z", "Expiration": soon}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    (tmp_path / "issue").write_text(f"#!/bin/sh\necho >> {asked}\ncat {tmp_path}/keys.json\n")
    os.chmod(tmp_path / "issue", 0o755)
    profile(f"endpoint_url = {{url}}\ncredential_process = {tmp_path}/issue\n")
    store = open_store(f"s3://{bucket}/")
    store.write("key", b"0123456789")
    filesystem, root = store.arrow()
    with filesystem.open_input_file(f"{root}/key") as file:
        before = len(asked.read_text().splitlines())
        assert (file.read(5), file.read(5)) == (b"01234", b"56789")
    assert len(asked.read_text().splitlines()) >= before + 2
