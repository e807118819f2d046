"""moto in server mode whose bucket `many` has very many keys of one content.

As a process, with tests/ on the path: `python -m support.manykeys PORT KEYS`.

Its own way to list sorts all keys for each page, which takes an hour of a million of them: here a page is looked up.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from functools import cache
from typing import Any

from moto.core import serialize
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends
from werkzeug.serving import run_simple

from support.images import picture

ACCOUNT, CLASSES = "123456789012", 10
NAMES: list[str] = []


def key_of(number: int) -> str:
    folder = "few" if number < 1000 else "all"
    return f"{folder}/class {number % CLASSES}/{number:08d}.png"


def fill(keys: int) -> None:
    """All keys have one content, and all else but their names, in common: moto's own take 7 KB each."""
    bucket = s3_backends[ACCOUNT]["aws"].create_bucket("many", "us-east-1")
    first = FakeKey(name="", value=picture(0, "red"), account_id=ACCOUNT, region_name="us-east-1", bucket_name="many")
    assert first.etag  # moto computes it when it is asked for it first
    in_common = {name: value for name, value in vars(first).items() if name != "name"}
    named = type("Named", (FakeKey,), in_common)
    for number in range(keys):
        key = named.__new__(named)
        key.name = key_of(number)
        bucket.keys[key.name] = key
    NAMES.extend(sorted(bucket.keys.keys()))


def list_page(
    self: S3Backend,
    bucket: FakeBucket,
    prefix: str | None,
    delimiter: str | None,
    continuation_token: str | None,
    start_after: str | None,
    max_keys: int,
) -> tuple[list[FakeKey], bool, str | None]:
    begin = bisect_right(NAMES, continuation_token or start_after or "")
    begin = max(begin, bisect_right(NAMES, prefix or ""))
    names: list[str] = [name for name in NAMES[begin : begin + max_keys] if name.startswith(prefix or "")]
    more = len(names) == max_keys and begin + max_keys < len(NAMES)
    found: list[Any] = [bucket.keys[name] for name in names]
    return found, more, names[-1] if more else None


if __name__ == "__main__":
    fill(int(sys.argv[2]))
    serialize.parse_to_aware_datetime = cache(serialize.parse_to_aware_datetime)  # all keys are of one second
    S3Backend.list_objects_v2 = list_page  # type: ignore[method-assign,assignment]
    run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=True)
