"""The store of s3:// URIs, with boto3."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import s3transfer.exceptions
import urllib3
from boto3.exceptions import Boto3Error, RetriesExceededError
from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore import exceptions as boto
from s3transfer.exceptions import S3DownloadFailedError

from job.config import Storage
from job.errors import AccessDenied, ObjectMissing, StorageError
from job.storage import DEFAULTS, ObjectInfo, Skipped
from job.storage.filesystem import half_file
from job.storage.objects import FOLDER_PAGES, PAGE, Objects, below, between, one_by_one
from job.storage.s3_client import make_client
from job.storage.s3_errors import not_kept, translated
from job.storage.s3_get import ShortGet, ShortWay, check_etag
from job.storage.s3_pages import OBJECTS, read_page
from job.storage.shortcut import Shortcut
from job.wording import sentence

if TYPE_CHECKING:
    import pyarrow.fs

T = TypeVar("T")
DOWNLOAD = TransferConfig(num_download_attempts=3)
"""Each part is tried three times, without a pause."""
UPLOAD_ATTEMPTS = 3
BODY_ATTEMPTS = 6
PAUSE = 0.4
"""The longest pause, in seconds, before a body is requested again; doubled each time."""
CHANGED = (S3DownloadFailedError, getattr(s3transfer.exceptions, "S3ValidationError", S3DownloadFailedError))
"""Errors of downloads whose object was overwritten between two parts, or (since s3transfer 0.14) with a wrong part."""
BROKEN_BODY = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.FlexibleChecksumError,
    urllib3.exceptions.HTTPError,
    *CHANGED,
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
NETWORK = "check the network and the endpoint (AWS_ENDPOINT_URL, AWS_REGION), then run it again"


class S3Store:
    def __init__(self, bucket: str, prefix: str, access: Storage = DEFAULTS) -> None:
        self.bucket, self.prefix, self.access = bucket, prefix, access
        self.uri = f"s3://{bucket}/{prefix}"
        self._lock, self._opened, self._shortcut = threading.Lock(), None, Shortcut()

    def __reduce__(self) -> tuple[type[S3Store], tuple[str, str, Storage]]:
        return S3Store, (self.bucket, self.prefix, self.access)

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._opened is None:
                client = make_client(self.access)
                self._short, self._listing = ShortGet(client, self.bucket), ShortWay(client, "ListObjectsV2")
                self._opened = client
            return self._opened

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        return one_by_one(self.pages(prefix))

    def pages(
        self, prefix: str = "", *, after: str = "", before: str = "", skipped: Skipped | None = None
    ) -> Iterator[Objects]:
        token, more = None, True
        while more:
            with self._translated("list", prefix):
                objects, following = self._page(self.prefix + prefix, self.prefix + after if after else "", token)
                if following is not None and following == token:
                    raise StorageError(f"{self.uri}: the store lists the same page again and again.")
            token = following
            page = below(objects, self.prefix)
            if (wanted := between(page, after, before)).keys:
                yield wanted
            more = token is not None and not (before and page.keys and page.keys[-1] >= before)

    def _page(self, prefix: str, after: str, token: str | None) -> tuple[Objects, str | None]:
        """A page of what comes `after` this whole key, the one that the token is of; and the token of the next one."""
        client, asked = self._client, {"prefix": prefix, "max-keys": str(PAGE)}
        if token is not None:
            query = {"list-type": "2", "encoding-type": "url", "continuation-token": token, **asked}
            answer = self._listing.send(f"?{urlencode(query, quote_via=quote)}", {})
            if answer is not None and (page := read_page(answer.content)) is not None:
                return page
        start = {"ContinuationToken": token} if token is not None else {"StartAfter": after} if after else {}
        told = client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=PAGE, **start)
        if OBJECTS not in told:
            raise StorageError(f"{self.uri}: what answers is no S3: {NETWORK}.")
        self._listing.learn()
        return told[OBJECTS], told.get("NextContinuationToken") if told.get("IsTruncated") else None

    def folders(self, prefix: str = "", *, after: str = "") -> Sequence[str]:
        where = {"Bucket": self.bucket, "Prefix": self.prefix + prefix, "Delimiter": "/"}
        with self._translated("list", prefix):
            start = {"StartAfter": self.prefix + after} if after else {}
            pages = islice(self._client.get_paginator("list_objects_v2").paginate(**where, **start), FOLDER_PAGES)
            found = [folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", ())]
        return [folder[len(self.prefix) :] for folder in found]

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._translated("look at", key):
                head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except ObjectMissing:
            return None
        etag, modified = head["ETag"].strip('"'), head["LastModified"].timestamp()
        return ObjectInfo(key, head["ContentLength"], etag, modified)

    def is_owned_by(self, account: str) -> bool:
        """Whether S3 takes the account of this number (12 digits) for the bucket's owner; other servers don't look."""
        with self._translated("look at", ""):
            self._client.head_bucket(Bucket=self.bucket)
            try:
                self._client.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=account)
            except boto.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                    raise
                return False
        return True

    def read(self, key: str, version: str | None = None) -> bytes:
        def ask() -> bytes:
            answer, content = self._get(key, version)
            self._check_etag(answer, lambda: hashlib.md5(content, usedforsecurity=False))
            return content

        with self._translated("read", key):
            return self._ask(key, version, None, otherwise=lambda: _whole(ask))

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        return self.read_range(key, 0, count, version=version)

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        part = f"bytes={start}-{start + count - 1}"
        with self._translated("read", key):
            try:
                return self._ask(
                    key, version, part, otherwise=lambda: _whole(lambda: self._get(key, version, Range=part)[1])
                )
            except boto.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":  # an empty object has no first byte
                    return b""
                raise

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, data, {})

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        return self._put(key, data, {"IfMatch": f'"{version}"'} if version else {"IfNoneMatch": "*"})

    def delete(self, key: str) -> None:
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        with self._translated("delete unfinished uploads of", prefix):
            where = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**where):
                for unfinished in page.get("Uploads", ()):
                    if time.time() - unfinished["Initiated"].timestamp() >= seconds:
                        upload = {"Key": unfinished["Key"], "UploadId": unfinished["UploadId"]}
                        with suppress(self._client.exceptions.NoSuchUpload):  # just finished
                            self._client.abort_multipart_upload(Bucket=self.bucket, **upload)

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key):
            for attempt in range(1, UPLOAD_ATTEMPTS + 1):
                try:
                    with S3Transfer(self._client) as transfer:
                        transfer.upload_file(path, self.bucket, self.prefix + key)
                    break
                except Boto3Error as error:  # it was put together, the answer was lost, and asking again found nothing
                    if "(NoSuchUpload)" not in str(error) or attempt == UPLOAD_ATTEMPTS:
                        raise
        info = self.stat(key)
        if info is None:
            raise ObjectMissing(f"{self.uri}{key} is gone right after its upload: someone else deleted it.")
        return info.version

    def download(self, key: str, path: str) -> None:
        def ask() -> None:
            head = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            try:
                with S3Transfer(self._client, DOWNLOAD) as transfer:
                    transfer.download_file(self.bucket, self.prefix + key, half)
            except RetriesExceededError as error:
                raise error.last_exception from error
            self._check_etag(head, lambda: _md5_of_file(half))

        with self._translated("read", key), half_file(path) as half:
            _whole(ask)

    def _get(self, key: str, version: str | None, **more: str) -> tuple[dict[str, Any], bytes]:
        """What is told of the object, and its content."""
        condition = {"IfMatch": f'"{version}"'} if version else {}
        answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition, **more)
        try:
            content = answer["Body"].read()
        except boto.ReadTimeoutError as error:  # in a request, it has been retried already
            raise boto.ResponseStreamingError(error=error) from error
        self._short.learn(self.prefix + key)
        return answer, content

    def _ask(self, key: str, version: str | None, part: str | None, *, otherwise: Callable[[], bytes]) -> bytes:
        """The content, or a part of it, in the short way; or else what `otherwise` returns."""

        def shortly() -> bytes | None:
            return self._client and self._short.read(self.prefix + key, version, part)  # it is made with the client

        return self._shortcut.read(shortly, otherwise)

    def _check_etag(self, answer: dict[str, Any], md5: Callable[[], Any]) -> None:
        check_etag(self._client, self.bucket, answer, md5=md5)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from job.storage.arrow import as_filesystem

        return as_filesystem(self)

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str:
        with self._translated("write", key):
            answer = self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
            try:
                self._check_etag(answer, lambda: hashlib.md5(data, usedforsecurity=False))
            except boto.FlexibleChecksumError as error:  # a store that took the frame of a checksum for content
                raise not_kept(f"{self.uri}{key}") from error
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
            raise translated(error, action, where, bucket=self.bucket, pays=self.access.requester_pays) from error
        except boto.FlexibleChecksumError as error:
            raise StorageError(
                f"{where}: could not {action} it, after retries: its bytes arrive changed ({error}): check the proxies "
                "on the way, or write it again. AWS_RESPONSE_CHECKSUM_VALIDATION=when_required turns this check off."
            ) from error
        except (Boto3Error, boto.HTTPClientError, boto.ConnectionError, *BROKEN_BODY) as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, boto.ClientError):
                raise translated(cause, action, where, bucket=self.bucket, pays=self.access.requester_pays) from error
            raise StorageError(f"{where}: could not {action} it, after retries ({error}): {NETWORK}.") from error
        except boto.BotoCoreError as error:
            raise StorageError(f"{where}: could not {action} it: {sentence(error)}") from error
        except (OSError, ValueError) as error:  # a file of this machine; an endpoint or a key that can't be
            raise StorageError(f"{where!r}: could not {action} it: {sentence(error)}") from error


def _whole(ask: Callable[[], T]) -> T:
    """The result of `ask`, with retries after broken or corrupted bodies. boto3 itself retries only requests."""
    for attempt in range(1, BODY_ATTEMPTS):
        try:
            return ask()
        except BROKEN_BODY:
            time.sleep(random.uniform(0, PAUSE * 2 ** (attempt - 1)))
    return ask()


def _md5_of_file(path: str) -> Any:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
