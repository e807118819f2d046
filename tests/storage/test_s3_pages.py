"""Pages of a listing: what botocore would make of them, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.session import Session
from botocore.utils import parse_timestamp

from job.storage import open_store
from job.storage.s3_pages import OBJECTS, _take_objects, _usual, parse_time

KEYS = [
    "a/b.png",
    "a b/+%2B&<>\"'.png",
    "gr\u00f6\u00dfe/\u5bf8\u6cd5.jpg",
    " lead",
    "tail ",
    "line\u000abreak",
    "a/",
    "",
]
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def page(keys: list[str], *, namespace: str = NAMESPACE, encoded: bool = True, written: str = "S3") -> bytes:
    text: Callable[[str], str] = quote_plus if encoded else escape
    objects = ""
    for number, key in enumerate(keys):
        names = {
            "Key": text(key),
            "LastModified": f"2026-11-2{number % 10}T13:55:00.000Z",
            "ETag": f'"{number:032x}"' if written == "moto" else f"{'W/' * (number % 2)}&quot;{number:032x}&quot;",
            "ChecksumAlgorithm": "CRC32",
            "Size": str(number),
            "Owner": "<ID>x</ID>",
            "StorageClass": "STANDARD",
        }
        order = reversed(names) if written == "the other way round" else names
        space = "\n  " if written == "with spaces" else ""
        objects += (
            f"<Contents>{space}" + space.join(f"<{name}>{names[name]}</{name}>" for name in order) + "</Contents>"
        )
    objects = objects.replace("<Key>", "<Key><!-- no key -->") if written == "with comments" else objects
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>"
    head = "<?xml version='1.0' encoding='UTF-8'?>"
    return f"{head}<ListBucketResult{namespace}><Name>b</Name>{encoding}{more}{objects}</ListBucketResult>".encode()


@pytest.fixture(scope="module")
def operation() -> OperationModel:
    return Session().create_client("s3", "us-east-1").meta.service_model.operation_model("ListObjectsV2")


def parsed(body: bytes, operation: OperationModel, status: int = 200) -> dict[str, Any]:
    answer = {"status_code": status, "headers": {}, "body": body}
    return create_parser("rest-xml").parse(answer, operation.output_shape)


def taken(body: bytes, operation: OperationModel, status: int = 200) -> dict[str, Any]:
    """As a client with `read_pages` parses it."""
    answer: dict[str, Any] = {"status_code": status, "headers": {}, "body": body}
    more: dict[str, Any] = {}
    _take_objects(answer, more)
    return {**create_parser("rest-xml").parse(answer, operation.output_shape), **more}


@pytest.mark.parametrize("written", ["S3", "moto", "the other way round", "with spaces", "with comments"])
@pytest.mark.parametrize("namespace", [NAMESPACE, ""])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_page_is_what_botocore_makes_of_it(
    encoded: bool, namespace: str, written: str, operation: OperationModel
) -> None:
    keys = KEYS if encoded else KEYS[:-1]
    body = page(keys, namespace=namespace, encoded=encoded, written=written)
    whole, ours = parsed(body, operation), taken(body, operation)
    objects = ours.pop(OBJECTS)
    assert (_usual(body) is not None) == (written in ("S3", "moto"))
    theirs = [(o["Size"], o["ETag"].strip('"'), o["LastModified"].timestamp()) for o in whole.pop("Contents")]
    assert list(zip(*objects[1:], strict=True)) == theirs
    assert objects.keys == keys
    assert ours == whole, "the token of the next page, and whatever else it says"


def test_a_page_without_objects_has_none(operation: OperationModel) -> None:
    assert taken(page([]), operation)[OBJECTS].keys == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>", 404),
        (b"<Error><Code>SlowDown</Code></Error>", 200),
    ],
)
def test_what_is_no_page_is_left_to_botocore(body: bytes, status: int, operation: OperationModel) -> None:
    assert taken(body, operation, status) == parsed(body, operation, status)
    assert OBJECTS not in taken(body, operation, status)


def test_an_object_without_a_version_is_an_error(operation: OperationModel) -> None:
    """It could not be told from what is written over it."""
    body = page(["a.png"]).replace(b"ETag", b"Tag")
    with pytest.raises(ValueError, match=r"lists an object \('a.png'\) without its size, ETag or time"):
        taken(body, operation)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-26T13:55:00.000Z",
        "2026-11-26T13:55:00Z",
        "2026-11-26T13:55:00.123456+02:00",
        "Thu, 26 Nov 2026 13:55:00 GMT",
        "1795701300",
    ],
)
def test_a_time_is_what_botocore_makes_of_it(value: str) -> None:
    assert parse_time(value).timestamp() == parse_timestamp(value).timestamp()


def test_what_is_no_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_time("2026-99-99")


class Busy(BaseHTTPRequestHandler):
    """Its first answer is an error with the status 200, as S3's may be; the second one is a page."""

    asked = 0

    def do_GET(self) -> None:
        Busy.asked += 1
        body = b"<Error><Code>InternalError</Code></Error>" if Busy.asked == 1 else page(["a.png"])
        body = body.replace(b"<IsTruncated>true", b"<IsTruncated>false")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_an_error_that_comes_with_the_status_200_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        for name, value in {**account, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            monkeypatch.setenv(name, value)
        assert [info.key for info in open_store("s3://bucket/").list()] == ["a.png"]
        server.shutdown()
    assert Busy.asked == 2
