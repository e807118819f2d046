"""A short way to ask S3 for objects and for pages: half of the processor that botocore takes for a small answer.

It sends what the client has sent before, for something else, by the client's own connections and credentials, but
without botocore's serialisers, hooks and parsers. Whatever is no plain success is asked for by botocore again, which
knows about errors, retries and redirects.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import google_crc32c
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import BotoCoreError, FlexibleChecksumError
from botocore.utils import percent_encode

SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]*/\d{8}/([^/,]+)/([^/,]+)/aws4_request,")
"""The region and the service that a signature is for."""
OWN = ("authorization", "range", "if-match", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
"""Headers, in lower case, that each request has for itself."""
DIRECTORY = ("--x-s3", "--xa-s3")
"""The ends of the names of directory buckets."""
CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    "crc32c": lambda content: google_crc32c.value(content).to_bytes(4, "big"),
    "sha1": lambda content: hashlib.sha1(content, usedforsecurity=False).digest(),
    "sha256": lambda content: hashlib.sha256(content).digest(),
}

DESCRIBED = {
    "ETag": "etag",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
}
"""The names of botocore for headers of an answer."""


class _Sent(NamedTuple):
    """What all requests of the client for objects of its bucket have in common."""

    address: str
    """What comes before the key."""
    headers: dict[str, str]
    region: str
    service: str


class ShortWay:
    """Requests of one operation for one bucket, each like the first one of the client."""

    def __init__(self, client: Any, operation: str) -> None:
        self._client = client
        self._thread = threading.local()
        self._sent: _Sent | None = None
        # The request has been signed by then, if the handler is the last one.
        client.meta.events.register_last(f"request-created.s3.{operation}", self._see)

    @property
    def is_known(self) -> bool:
        return self._sent is not None

    def learn(self, ending: str | None = None) -> None:
        """Takes this thread's latest request for an example: it has succeeded, and its address ends so (by default, in
        its query).
        """
        request = self._thread.latest
        ending = f"?{request.url.partition('?')[2]}" if ending is None else ending
        if self._sent is not None or not request.url.endswith(ending):
            return
        headers = {name: _text(value) for name, value in request.headers.items()}
        if scope := SCOPE.match(headers.get("Authorization", "")):
            shared = {name: value for name, value in headers.items() if not _is_own(name)}
            self._sent = _Sent(request.url[: -len(ending)], shared, *scope.groups())

    def send(self, ending: str, headers: Mapping[str, str], *, status: int = 200) -> AWSResponse | None:
        """The whole answer with this status to a request whose address ends so; None where there is none."""
        if self._sent is None:
            return None
        address, shared, region, service = self._sent
        request = AWSRequest("GET", address + ending, shared | dict(headers))
        try:
            self._client._request_signer.get_auth_instance(service, region).add_auth(request)
            answer = self._client._endpoint.http_session.send(request.prepare())
        except BotoCoreError:
            return None
        is_whole = str(len(answer.content)) == answer.headers.get("Content-Length")
        return answer if answer.status_code == status and is_whole else None

    def _see(self, request: AWSRequest, **_: Any) -> None:
        self._thread.latest = request


class ShortGet:
    """Reads objects of a bucket in the short way."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._way = ShortWay(client, "GetObject")

    def learn(self, key: str) -> None:
        """Takes this thread's latest request for an example: it was for this whole key, and has succeeded."""
        if not self._bucket.endswith(DIRECTORY):  # its requests are signed for a session
            self._way.learn(percent_encode(key, safe="/~"))

    def read(self, key: str, version: str | None, part: str | None) -> bytes | None:
        """The content of an object by its whole key, or a part of it (`bytes=…`), checked as botocore's answers are.
        None where botocore has to ask, because nothing was learned so far, or this did not succeed.
        """
        own = {"If-Match": f'"{version}"' if version else None, "Range": part}
        headers = {name: value for name, value in own.items() if value is not None}
        answer = self._way.send(percent_encode(key, safe="/~"), headers, status=206 if part else 200)
        if answer is None:
            return None
        content: bytes = answer.content
        if part is None:
            try:
                self._check(content, answer.headers)
            except FlexibleChecksumError:
                return None
        return content

    def _check(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Raises FlexibleChecksumError where the content is not what the checksums that came with it say. Those of
        parts (with a dash) say nothing of it.
        """
        described = {field: headers[name] for field, name in DESCRIBED.items() if name in headers}
        check_etag(self._client, self._bucket, described, md5=lambda: hashlib.md5(content, usedforsecurity=False))
        for name, checksum in CHECKSUMS.items() if checks(self._client) else ():
            told = headers.get(f"x-amz-checksum-{name}", "-")
            if "-" not in told and base64.b64encode(checksum(content)).decode() != told:
                raise FlexibleChecksumError(error_msg=f"the {name} of what came is not {told}")


def check_etag(client: Any, bucket: str, answer: Mapping[str, Any], *, md5: Callable[[], Any]) -> None:
    """Raises FlexibleChecksumError where the ETag of an answer, as botocore describes it, is an MD5, and the bytes have
    another one.

    The ETag is no MD5 for objects of several parts, for objects under a customer's key, and in directory buckets.
    botocore itself checks the checksums that come with an object, if it knows the algorithm; the ETag is always there.
    """
    etag = answer.get("ETag", "").strip('"')
    by_s3 = answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer
    if not (checks(client) and by_s3 and re.fullmatch("[0-9a-f]{32}", etag)) or bucket.endswith(DIRECTORY):
        return
    if (digest := md5().hexdigest()) != etag:
        raise FlexibleChecksumError(error_msg=f"the ETag is {etag}, the MD5 of what came is {digest}")


def checks(client: Any) -> bool:
    """Whether the client checks what comes (AWS_RESPONSE_CHECKSUM_VALIDATION)."""
    return bool(client.meta.config.response_checksum_validation == "when_supported")


def _is_own(name: str) -> bool:
    return name.lower().startswith("amz-sdk-") or name.lower() in OWN


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
