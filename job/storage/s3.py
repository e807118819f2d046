"""s3://, with boto3."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo

if TYPE_CHECKING:
    import pyarrow.fs

RETRIES = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=60)
MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")
DENIED = (
    "401",
    "403",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "AllAccessDisabled",
)
CONFLICT = ("409", "412", "PreconditionFailed", "ConditionalRequestConflict")


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
                self._made = boto3.session.Session().client("s3", config=RETRIES)
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

    def read(self, key: str) -> bytes:
        for attempt in (1, 2, 3):
            try:
                with self._translated("read", key):
                    return self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
            except (ObjectMissing, AccessDenied):
                raise
            except StorageError:
                # boto3 retries a request, but not a body that breaks off.
                if attempt == 3:
                    raise
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
        return info.version if info else ""

    def download(self, key: str, path: str) -> None:
        with self._translated("read", key):
            self._client.download_file(self.bucket, self.prefix + key, path)  # to a temporary name, then renamed

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import S3FileSystem

        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options: dict[str, Any] = {"request_timeout": 60, "connect_timeout": 10}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            options["region"] = region
        if endpoint:
            scheme, _, host = endpoint.partition("://")
            options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme}
        return S3FileSystem(**options), f"{self.bucket}/{self.prefix}".rstrip("/")

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str:
        with self._translated("write", key):
            answer = self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
        return answer["ETag"].strip('"')

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}{key}"
        try:
            yield
        except NoCredentialsError as error:
            raise AccessDenied(
                f"{where}: no AWS credentials were found: set AWS_PROFILE or give the pod a role."
            ) from error
        except ClientError as error:
            raise _client_error(error, action, where, self.bucket) from error
        except Boto3Error as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ClientError):
                raise _client_error(cause, action, where, self.bucket) from error
            raise StorageError(f"{where}: could not {action} it: {error}.") from error
        except (BotoCoreError, OSError) as error:
            raise StorageError(f"{where}: could not {action} it, after retries: {error}") from error


def _client_error(error: ClientError, action: str, where: str, bucket: str) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code == "NoSuchBucket":
        return ObjectMissing(f"{where}: there is no bucket {bucket!r}: check its name and AWS_REGION.")
    if code in MISSING:
        return ObjectMissing(f"{where} does not exist.")
    if code in DENIED:
        return AccessDenied(
            f"{where}: not allowed to {action} it ({code}): check the credentials and the bucket's policy."
        )
    if code in CONFLICT:
        return WriteConflict(f"{where} was written by someone else: read it again before writing.")
    return StorageError(
        f"{where}: could not {action} it, after retries: {code} {error.response['Error'].get('Message', '')}"
    )
