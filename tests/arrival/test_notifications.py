"""Messages are untrusted: each is understood or refused, whatever is in it."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any
from urllib.parse import quote_plus

import pytest

from job.arrival.notifications import DEPTH, RECORDS, Notification, Refused, read_gcs, read_s3
from support.arrivals import ACCOUNT, OWNER, TEST_EVENT, bridge_event, gcs_event, in_sns, s3_event

LIMIT = 256 * 1024
KEY = "cells/crack/a b+c %41 ü.png"
TOLD = Notification((f"s3://cells/{KEY}",), frozenset({"s3://cells/"}))


def read(body: str | bytes, *owners: str) -> Notification:
    return read_s3(body.encode(errors="surrogatepass") if isinstance(body, str) else body, LIMIT, owners)


@pytest.mark.parametrize(
    "body",
    [
        s3_event("cells", KEY),
        s3_event("cells", KEY, "s3:ObjectCreated:CompleteMultipartUpload"),
        in_sns(s3_event("cells", KEY)),
        s3_event("cells", KEY, "ObjectRemoved:DeleteMarkerCreated"),
        s3_event("cells", KEY, "LifecycleExpiration:Delete"),
    ],
)
def test_what_s3_tells_names_the_object_as_it_is_called(body: str) -> None:
    assert read(body) == TOLD


@pytest.mark.parametrize("kind", ["Object Created", "Object Deleted"])
@pytest.mark.parametrize("key", [KEY, quote_plus(KEY, safe="/")])
def test_what_eventbridge_tells_names_the_object_whether_its_key_is_encoded_or_not(key: str, kind: str) -> None:
    for body in (bridge_event("cells", key, kind), in_sns(bridge_event("cells", key, kind))):
        assert TOLD.uris[0] in read(body).uris
        assert read(body).buckets == TOLD.buckets
    assert read(bridge_event("cells", "images/plain.png")).uris == ("s3://cells/images/plain.png",)


def test_keys_are_decoded_as_s3_encodes_them() -> None:
    """A slash may be encoded or not, and a plus is a space."""
    event = json.loads(s3_event("cells", "any"))
    event["Records"][0]["s3"]["object"]["key"] = "cells%2Fa+b%2Bc.png"
    assert read(json.dumps(event)).uris == ("s3://cells/cells/a b+c.png",)


def test_a_message_with_several_records_tells_of_all() -> None:
    assert read(s3_event("cells", "a", more=2)).uris == ("s3://cells/a",) * 3


@pytest.mark.parametrize(
    "body",
    [
        s3_event("cells", KEY, "ObjectTagging:Put"),
        s3_event("cells", KEY, "ObjectRestore:Post"),
        bridge_event("cells", KEY, "Object Tags Added"),
    ],
)
def test_what_changes_no_listing_is_no_arrival(body: str) -> None:
    assert read(body) == Notification((), frozenset({"s3://cells/"}))


@pytest.mark.parametrize("body", [TEST_EVENT, in_sns(TEST_EVENT)])
def test_the_test_event_of_s3_is_known(body: str) -> None:
    assert read(body) == Notification(test=True)


def test_another_accounts_bucket_is_refused() -> None:
    plain, bridge = s3_event("cells", KEY), bridge_event("cells", KEY)
    assert read(plain, OWNER) == read(plain, ACCOUNT, OWNER) == TOLD
    assert TOLD.uris[0] in read(bridge, ACCOUNT).uris
    assert read(bridge, ACCOUNT, OWNER) == read(bridge, ACCOUNT)
    for body, owners in ((plain, ["AAAABBBBCCCCDD"]), (bridge, ["999900001111"]), (plain, [ACCOUNT, "AAAABBBBCCCCDD"])):
        with pytest.raises(Refused, match="another account's"):
            read(body, *owners)
    with pytest.raises(Refused, match=r"ownerIdentity.principalId is 'A1B2C3D4E5F6G7'"):
        read(in_sns(plain), "AAAABBBBCCCCDD")


def test_an_owner_that_can_not_be_compared_is_taken_and_said() -> None:
    """S3 itself tells an id that has nothing to do with an account's number, and EventBridge the number alone."""
    plain = read(s3_event("cells", KEY), ACCOUNT)
    assert (plain.uris, plain.unchecked) == (TOLD.uris, f"ownerIdentity.principalId ({OWNER!r} in this one)")
    bridge = read(bridge_event("cells", KEY), OWNER)
    assert bridge.unchecked == f"account ({ACCOUNT!r} in this one)"
    assert read(s3_event("cells", KEY, more=2), ACCOUNT).unchecked == plain.unchecked


def changed(path: str, value: Any) -> str:
    """An event with something else at that path; `…` deletes."""
    event = json.loads(s3_event("cells", KEY))
    *parents, last = path.split(".")
    node = event
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return json.dumps(event)


HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "half": s3_event("cells", KEY).encode()[:-20],
    "not UTF-8": b'{"Records": "\xff\xfe"}',
    "null bytes": b"\0" * 100,
    "a number": b"1",
    "a huge number": b'{"Records": ' + b"9" * 5000 + b"}",
    "a list": b"[]",
    "no records": b'{"Records": []}',
    "records that are none": b'{"Records": {"0": {}}}',
    "deep": b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    "deeper": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep without an end": b"[" * LIMIT,
    "deep where nobody looks": changed("Records.0.more", json.loads("[" * DEPTH + "]" * DEPTH)).encode(),
    "large": b'{"a": "' + b"a" * LIMIT + b'"}',
    "too many records": s3_event("cells", "a", more=RECORDS).encode(),
    "SNS without a message": in_sns("").encode(),
    "SNS in SNS": in_sns(in_sns(s3_event("cells", KEY))).encode(),
    "SNS of a number": in_sns("1").encode(),
    "another source": changed("Records.0.eventSource", "aws:sqs").encode(),
    "a bucket that is a number": changed("Records.0.s3.bucket.name", 7).encode(),
    "a bucket that is a path": changed("Records.0.s3.bucket.name", "../../etc").encode(),
    "a bucket with a line": changed("Records.0.s3.bucket.name", "cells\n").encode(),
    "a long bucket": changed("Records.0.s3.bucket.name", "a" * 300).encode(),
    "no key": changed("Records.0.s3.object.key", ...).encode(),
    "an empty key": changed("Records.0.s3.object.key", "").encode(),
    "a key that is a list": changed("Records.0.s3.object.key", ["a"]).encode(),
    "a long key": changed("Records.0.s3.object.key", "ü" * 513).encode(),
    "no s3": changed("Records.0.s3", ...).encode(),
    "no event name": changed("Records.0.eventName", None).encode(),
    "EventBridge of another service": bridge_event("cells", KEY).replace("aws.s3", "aws.ec2").encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_event_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(Refused) as refused:
        read(HOSTILE[name], OWNER)
    assert len(str(refused.value)) < 100
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("rest", [b'"' * (LIMIT - 10), b'"' + b'\\"' * (LIMIT // 2 - 10) + b"\\", b'["' * (LIMIT // 2)])
def test_no_message_takes_long_to_refuse(rest: bytes) -> None:
    """In proportion to its length: of a quadratic reading nobody would see the end."""
    with pytest.raises(Refused):
        read(rest)


def test_keys_may_have_any_characters() -> None:
    event = json.loads(bridge_event("cells", "any"))
    for key in ("\ud800", "a\nb", "\x1b[2J", "%zz", "a/../b"):
        event["detail"]["object"]["key"] = key
        assert read(json.dumps(event)).uris[0] == f"s3://cells/{key}"


def test_mutilated_messages_are_understood_or_refused() -> None:
    chance = random.Random(7)
    bodies = [s3_event("cells", KEY), in_sns(s3_event("cells", KEY)), bridge_event("cells", KEY), TEST_EVENT]
    understood = 0
    for number in range(4000):
        body = bytearray(bodies[number % len(bodies)].encode())
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(body))
            piece = chance.choice([b"", b"[", b"{", b'"', b"\\", b"null", b"9", bytes([chance.randrange(256)])])
            body[place : place + chance.randint(0, 3)] = piece
        try:
            told = read(bytes(body), *chance.choice([(), (OWNER,)]))
        except Refused:
            continue
        understood += 1
        assert isinstance(told, Notification)
    assert understood > 100


def test_values_of_other_types_are_refused_or_do_not_matter() -> None:
    def places(node: Any, path: str = "") -> list[str]:
        if isinstance(node, (dict, list)):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            return [place for name, value in items for place in (f"{path}{name}", *places(value, f"{path}{name}."))]
        return []

    for path in places(json.loads(s3_event("cells", KEY))):
        if path.endswith(".0"):
            continue
        for value in (None, True, 0, -1.5, "", [], {}, [[]], {"a": {}}, ...):
            with suppress(Refused):
                assert isinstance(read(changed(path, value), OWNER), Notification)


@pytest.mark.parametrize("payload", ["NONE", "JSON_API_V1"])
@pytest.mark.parametrize(
    ("kind", "arrives"), [("OBJECT_FINALIZE", 1), ("OBJECT_DELETE", 1), ("OBJECT_METADATA_UPDATE", 0)]
)
def test_notifications_of_gcs(kind: str, arrives: int, payload: str) -> None:
    told = read_gcs(*gcs_event("cells", KEY, kind, payload), LIMIT)
    assert told == Notification((f"gs://cells/{KEY}",) * arrives, frozenset({"gs://cells/"}))


def test_hostile_notifications_of_gcs_are_refused() -> None:
    data, attributes = gcs_event("cells", KEY, payload="JSON_API_V1")
    other, _ = gcs_event("cells", "another", payload="JSON_API_V1")
    for bad in (
        (other, attributes),
        (b"{", attributes),
        (b"[" * 1000, attributes),
        (b" " * (LIMIT + 1), {**attributes, "payloadFormat": "NONE"}),
        (data, {}),
        (data, {**attributes, "bucketId": "a/b"}),
        (data, {**attributes, "objectId": "a" * 1025}),
        (data, {name: value for name, value in attributes.items() if name != "eventType"}),
    ):
        with pytest.raises(Refused):
            read_gcs(*bad, LIMIT)
