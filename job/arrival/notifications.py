"""Parses notifications: which objects were written or deleted. Messages are untrusted input.

From S3 come its own notifications, plain or in SNS's envelope, and those of EventBridge; from GCS those of Pub/Sub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

DEPTH = 16
"""The deepest nesting of JSON; S3's own events have 6."""
RECORDS = 1000
"""The most records of one message; S3 sends one."""
LONGEST = 1024
"""The most UTF-8 bytes of an object's key, in S3 and in GCS."""
CHANGES = ("ObjectCreated:", "ObjectRemoved:", "LifecycleExpiration:")
"""The beginnings of S3's event names that change a listing."""
BRIDGE_CHANGES = ("Object Created", "Object Deleted")
GCS_CHANGES = ("OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE")
NUMBER = re.compile(r"[0-9]{12}")
"""An account's number."""
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string, also an unterminated one. The pattern never backtracks: it reads each byte once."""


class Refused(Exception):
    """The message is refused; the text says why, in one line."""


@dataclass(frozen=True)
class Notification:
    """The content of one message."""

    uris: tuple[str, ...] = ()
    """URIs of the objects that changed; empty where no listing changes."""
    buckets: frozenset[str] = frozenset()
    """The buckets in the message, as URIs: s3://bucket/."""
    test: bool = False
    """Whether this is the message by which S3 tests that it can reach the queue."""
    unchecked: str = ""
    """What tells the owner in a message whose owner could not be compared with any that is expected."""


def read_s3(body: bytes, limit: int, owners: Sequence[str] = ()) -> Notification:
    """Parses a message about S3. With `owners`, buckets of others are refused. Raises Refused.

    EventBridge tells the number of the owner's account (12 digits), S3 itself an id of the owner that has nothing to do
    with it. Each is compared with the `owners` of its kind, where there are any.
    """
    event = _mapping(_json(body, limit), "the message")
    if event.get("Type") == "Notification" and "TopicArn" in event:
        event = _mapping(_json(_text(event, "Message").encode(errors="surrogatepass"), limit), "SNS's Message")
    if event.get("Event") == "s3:TestEvent":
        return Notification(test=True)
    if "detail-type" in event:
        return _of_bridge(event, owners)
    if "Records" not in event:
        raise Refused("no event of S3: neither Records nor detail-type")
    records = event["Records"]
    if not isinstance(records, list) or not 0 < len(records) <= RECORDS:
        raise Refused(f"Records: a list of 1 to {RECORDS} is needed")
    return _joined([_of_record(_mapping(record, "Records"), owners) for record in records])


def read_gcs(data: bytes, attributes: Mapping[str, str], limit: int) -> Notification:
    """Parses a message about GCS by its attributes. A payload (JSON_API_V1) must not contradict them. Raises
    Refused.
    """
    if len(data) > limit:
        raise Refused(f"{len(data)} bytes, more than {limit}")
    kind = _text(attributes, "eventType")
    uri, bucket = _uri("gs", _text(attributes, "bucketId"), _text(attributes, "objectId"))
    if attributes.get("payloadFormat") == "JSON_API_V1":
        payload = _mapping(_json(data, limit), "the payload")
        if (payload.get("bucket"), payload.get("name")) != (attributes["bucketId"], attributes["objectId"]):
            raise Refused("the payload tells of another object than the attributes")
    return Notification((uri,) if kind in GCS_CHANGES else (), frozenset({bucket}))


def _of_record(record: dict[str, Any], owners: Sequence[str]) -> Notification:
    if record.get("eventSource") not in ("aws:s3", "minio:s3", "ceph:s3"):
        raise Refused("eventSource: not S3")
    kind = _text(record, "eventName").removeprefix("s3:")
    s3 = _mapping(record.get("s3"), "s3")
    bucket, item = _mapping(s3.get("bucket"), "s3.bucket"), _mapping(s3.get("object"), "s3.object")
    ids, unchecked = [owner for owner in owners if not NUMBER.fullmatch(owner)], ""
    if owners:
        owner = _mapping(bucket.get("ownerIdentity"), "s3.bucket.ownerIdentity")
        unchecked = _unchecked(_text(owner, "principalId"), ids, "ownerIdentity.principalId")
    uri, name = _uri("s3", _text(bucket, "name"), unquote_plus(_text(item, "key")))
    return Notification((uri,) if kind.startswith(CHANGES) else (), frozenset({name}), unchecked=unchecked)


def _of_bridge(event: dict[str, Any], owners: Sequence[str]) -> Notification:
    """Parses an event of EventBridge. Its key counts both as it is and decoded, since it may be either: a wrong key
    costs only a listing, a missing one would lose an arrival.
    """
    if event.get("source") != "aws.s3":
        raise Refused("source: not aws.s3")
    kind, detail = _text(event, "detail-type"), _mapping(event.get("detail"), "detail")
    numbers = [owner for owner in owners if NUMBER.fullmatch(owner)]
    unchecked = _unchecked(_text(event, "account"), numbers, "account") if owners else ""
    bucket, item = _mapping(detail.get("bucket"), "detail.bucket"), _mapping(detail.get("object"), "detail.object")
    readings = dict.fromkeys((_text(item, "key"), unquote_plus(_text(item, "key"))))
    uris = [_uri("s3", _text(bucket, "name"), key) for key in readings]
    changed = tuple(uri for uri, _ in uris) if kind in BRIDGE_CHANGES else ()
    return Notification(changed, frozenset(name for _, name in uris), unchecked=unchecked)


def _joined(notifications: list[Notification]) -> Notification:
    uris = tuple(uri for notification in notifications for uri in notification.uris)
    buckets = frozenset[str]().union(*(notification.buckets for notification in notifications))
    return Notification(uris, buckets, unchecked=notifications[0].unchecked)


def _uri(scheme: str, bucket: str, key: str) -> tuple[str, str]:
    """The URI of the object, and that of its bucket. Raises Refused."""
    if not BUCKET.fullmatch(bucket):
        raise Refused("no valid bucket name")
    if not 0 < len(key.encode(errors="surrogatepass")) <= LONGEST:
        raise Refused(f"the object's key has not 1 to {LONGEST} bytes")
    return f"{scheme}://{bucket}/{key}", f"{scheme}://{bucket}/"


def _unchecked(owner: str, expected: Sequence[str], field: str) -> str:
    """Raises Refused where the owner is none of those expected. What to tell of one that nothing is expected of."""
    if expected and owner not in expected:
        raise Refused(f"account: the bucket is another account's: {field} is {owner!r}")
    return "" if expected else f"{field} ({owner!r} in this one)"


def _json(text: bytes, limit: int) -> Any:
    if len(text) > limit:
        raise Refused(f"{len(text)} bytes, more than {limit}")
    if _depth(text) > DEPTH:
        raise Refused(f"JSON that is nested more than {DEPTH} deep")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8, and numbers of thousands of digits
        raise Refused("no JSON") from error


def _depth(text: bytes) -> int:
    """The deepest nesting of brackets outside of strings."""
    depth = deepest = 0
    for bracket in re.findall(rb"[\[{}\]]", STRINGS.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{name}: an object is needed")
    return value


def _text(mapping: Mapping[str, Any], name: str) -> str:
    value = mapping.get(name)
    if not isinstance(value, str):
        raise Refused(f"{name}: a text is needed")
    return value
