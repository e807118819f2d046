"""s3://, with boto3."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.config import Config

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo, arrow_path
from job.storage.local import half_file

if TYPE_CHECKING:
    import pyarrow.fs

ATTEMPTS = 8
"""With the SDK's exponential pauses and jitter: about six seconds in all where a server refuses connections."""
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=32,
)
BODY_ATTEMPTS = 4
BROKEN_BODY = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.ReadTimeoutError,
    boto.FlexibleChecksumError,
)
NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.ProfileNotFound,
)
MISSING = ("404", "NoSuchKey", "NotFound")
DENIED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
"""Codes that mean 403 and come as 400."""


class S3Store:
    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}"
        self._lock, self._made = threading.Lock(), None

    def __reduce__(self) -> tuple[type[S3Store], tuple[str, str]]:
        return S3Store, (self.bucket, self.prefix)

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = boto3.session.Session().client("s3", region_name=_region(), config=CONFIG)
            return self._made

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    if not item["Key"].endswith("/"):
                        key = item["Key"][len(self.prefix) :]
                        yield ObjectInfo(key, item["Size"], item["ETag"].strip('"'))

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._translated("look at", key):
                head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except ObjectMissing:
            return None
        return ObjectInfo(key, head["ContentLength"], head["ETag"].strip('"'))

    def read(self, key: str, version: str | None = None) -> bytes:
        condition = {"IfMatch": f'"{version}"'} if version else {}
        with self._translated("read", key):
            for attempt in range(1, BODY_ATTEMPTS + 1):
                body = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition)["Body"]
                try:
                    return body.read()
                except BROKEN_BODY:  # shorter than its Content-Length; boto3 retries requests, but not bodies
                    if attempt == BODY_ATTEMPTS:
                        raise
                    time.sleep(random.uniform(0, 0.2 * 2**attempt))
        raise AssertionError("unreachable")

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, data, {})

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        return self._put(key, data, {"IfMatch": f'"{version}"'} if version else {"IfNoneMatch": "*"})

    def delete(self, key: str) -> None:
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key):
            self._client.upload_file(path, self.bucket, self.prefix + key)
        info = self.stat(key)
        if info is None:
            raise ObjectMissing(f"{self.uri}{key} is gone right after its upload: someone else deleted it.")
        return info.version

    def download(self, key: str, path: str) -> None:
        with self._translated("read", key), half_file(path) as half:
            self._client.download_file(self.bucket, self.prefix + key, half)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        path = arrow_path(self.bucket, self.prefix)
        options: dict[str, Any] = {"request_timeout": 60, "connect_timeout": 5, "allow_bucket_creation": False}
        if region := _region():
            options["region"] = region
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            scheme, _, host = endpoint.rpartition("://")
            options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
        return S3FileSystem(retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), **options), path

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str:
        with self._translated("write", key):
            answer = self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
        return answer["ETag"].strip('"')

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}{key}"
        try:
            yield
        except NO_CREDENTIALS as error:
            raise AccessDenied(
                f"{where}: no AWS credentials to {action} it: set AWS_PROFILE, or give the pod a role. ({error})"
            ) from error
        except boto.ClientError as error:
            raise self._client_error(error, action, where) from error
        except Boto3Error as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, boto.ClientError):
                raise self._client_error(cause, action, where) from error
            raise StorageError(f"{where}: could not {action} it, after retries: {error}") from error
        except boto.BotoCoreError as error:
            raise StorageError(f"{where}: could not {action} it, after retries: {error}") from error
        except (OSError, ValueError) as error:  # a file of this machine; an endpoint or a key that can't be
            raise StorageError(f"{where!r}: could not {action} it: {error}") from error

    def _client_error(self, error: boto.ClientError, action: str, where: str) -> StorageError:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code, message = (str(answer.get("Error", {}).get(name, "")) for name in ("Code", "Message"))
        if code == "NoSuchBucket":
            return ObjectMissing(f"{where}: there is no bucket {self.bucket!r}: check its name and the region.")
        if status == 412 and action == "read":
            return ObjectMissing(f"{where} is not the version that was listed: it was written since.")
        if status in (409, 412) or (code == "NoSuchKey" and action == "write"):  # If-Match on what was deleted
            return WriteConflict(f"{where} was written by someone else: read it again before writing.")
        if code in MISSING:
            return ObjectMissing(f"{where} does not exist: check the name, and that there is a bucket {self.bucket!r}.")
        if status in (401, 403) or code in DENIED:
            return AccessDenied(
                f"{where}: not allowed to {action} it ({code}): check the credentials, their policy and the bucket's."
            )
        return StorageError(f"{where}: could not {action} it, after retries: {code} {message}")


def _region() -> str | None:
    """boto3 reads AWS_DEFAULT_REGION only, the other SDKs and EKS go by AWS_REGION."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
