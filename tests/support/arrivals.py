"""Messages as S3, SNS, EventBridge and GCS send them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

OWNER, ACCOUNT = "A1B2C3D4E5F6G7", "111122223333"
TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "cells", "RequestId": "1"})


def s3_event(bucket: str, key: str, name: str = "ObjectCreated:Put", more: int = 0) -> str:
    """`more`: the same once more in this message, so many times."""
    described = {
        "s3SchemaVersion": "1.0",
        "bucket": {"name": bucket, "ownerIdentity": {"principalId": OWNER}, "arn": f"arn:aws:s3:::{bucket}"},
        "object": {"key": quote_plus(key, safe="/"), "size": 1024, "eTag": "d41d8cd9", "sequencer": "0055AED6DCD902"},
    }
    record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name, "s3": described}
    return json.dumps({"Records": [record] * (more + 1)})


def in_sns(body: str) -> str:
    topic = f"arn:aws:sns:eu-central-1:{ACCOUNT}:arrivals"
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": topic, "Message": body})


def bridge_event(bucket: str, key: str, kind: str = "Object Created") -> str:
    detail: dict[str, Any] = {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, "size": 1024}}
    return json.dumps({"version": "0", "detail-type": kind, "source": "aws.s3", "account": ACCOUNT, "detail": detail})


def gcs_event(
    bucket: str, key: str, kind: str = "OBJECT_FINALIZE", payload: str = "NONE"
) -> tuple[bytes, dict[str, str]]:
    """Data and attributes."""
    attributes = {
        "bucketId": bucket,
        "objectId": key,
        "eventType": kind,
        "payloadFormat": payload,
        "objectGeneration": "1700000000000000",
    }
    described = json.dumps({"kind": "storage#object", "bucket": bucket, "name": key, "size": "1024"})
    return (described.encode() if payload == "JSON_API_V1" else b""), attributes
