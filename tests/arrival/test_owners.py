"""What is said of `account:` before the first event."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from job.arrival.owners import doubts
from job.arrival.settings import Watch
from job.arrival.targets import Target
from job.config.jobfile import checked
from job.deploy.submit import Options
from job.storage import open_store
from support.arrivals import ACCOUNT, OWNER
from support.watching import job_of

CANONICAL = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a"


class _Owned(BaseHTTPRequestHandler):
    """S3, as far as it looks at who is expected to own a bucket: `cells` is ours, `hidden` may not be looked at."""

    def do_HEAD(self) -> None:
        expected = self.headers.get("x-amz-expected-bucket-owner", ACCOUNT)
        self.send_response(200 if "hidden" not in self.path and expected == ACCOUNT else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), _Owned)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def doubted(account: Any, bucket: str = "cells", queue: str = "https://sqs.eu-central-1.amazonaws.com") -> list[str]:
    document = {"queue": f"{queue}/{ACCOUNT}/arrivals", "account": account, "jobs": [{"job": "a", "overlay": "b"}]}
    target = Target(job_of("cells", bucket), Options("local"), {}, None)  # type: ignore[arg-type]
    return list(doubts(checked(Watch, document, "watch.yaml"), [target]))


@pytest.mark.parametrize("account", [None, ACCOUNT, OWNER, CANONICAL, [ACCOUNT, OWNER], ["999900001111", ACCOUNT]])
def test_what_can_be_an_owner_is_not_doubted(account: Any) -> None:
    assert doubted(account) == []


def test_the_number_of_another_account_is_seen() -> None:
    (text,) = doubted(["999900001111", OWNER])
    assert text == (
        "account: s3://cells/, which cells reads, does not belong to 999900001111, says S3: its events by EventBridge "
        "will be refused."
    )


def test_a_bucket_that_nothing_can_be_seen_of_is_not_doubted() -> None:
    assert doubted("999900001111", bucket="hidden") == []


@pytest.mark.parametrize("account", ["1111-2222-3333", "our-account", "arn:aws:iam::111122223333:root"])
def test_what_is_neither_a_number_nor_an_id_is_seen(account: str) -> None:
    (text,) = doubted(account)
    assert text.startswith(f"account: {account!r} looks neither like an account's number (12 digits; ")


def test_other_servers_have_other_ids() -> None:
    assert doubted("minioadmin", queue="http://127.0.0.1:9324") == []


def test_a_bucket_belongs_to_who_s3_says() -> None:
    store = open_store("s3://cells/images/")
    assert store.is_owned_by(ACCOUNT)  # type: ignore[attr-defined]
    assert not store.is_owned_by("999900001111")  # type: ignore[attr-defined]
