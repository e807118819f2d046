"""Translates the errors of S3, and of stores with its API, into errors that say what they mean and what to do."""

from __future__ import annotations

import os
import re

from botocore.exceptions import ClientError

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.wording import sentence

MISSING = ("404", "NoSuchKey", "NotFound")
EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException", "RequestExpired")
"""Codes that mean 403, but mostly come with the status 400."""
BUSY = ("SlowDown", "RequestTimeout")
ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
SKEWED = ("RequestTimeTooSkewed", "RequestInTheFuture")
UNKNOWN = ("NotImplemented", "MissingContentLength", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")
"""Codes of other stores for unsupported conditions, and for the checksums that boto3 has sent since 2025."""
CHECKSUM = re.compile("checksum|trailer|aws-chunked|content-md5|sdk-checksum", re.IGNORECASE)
WITHOUT = "AWS_REQUEST_CHECKSUM_CALCULATION"
KMS = re.compile(r"\bkms\b", re.IGNORECASE)
KEY = re.compile(r"arn:aws[a-z-]*:kms:[\w:/-]+")


def translated(error: ClientError, action: str, where: str, *, bucket: str, pays: bool) -> StorageError:
    """The error of Thaw for a ClientError. `where` is the URI of the object, and `pays` whether the request says that
    its sender pays.
    """
    answer = error.response
    metadata = answer.get("ResponseMetadata", {})
    status, region = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    code, message = (str(answer.get("Error", {}).get(name, "")) for name in ("Code", "Message"))
    region = region or str(answer.get("Error", {}).get("Region", ""))
    denied = f"{where}: not allowed to {action} it ({code})"
    if code == "NoSuchBucket":
        return ObjectMissing(f"{where}: there is no bucket {bucket!r}: check its name and the region.")
    if code in SKEWED:
        return AccessDenied(f"{denied}: this machine's clock is wrong by more than the store allows: set it (NTP).")
    if code in ELSEWHERE:
        there = f"in {region}: set AWS_REGION={region}" if region else "in another region: set AWS_REGION to that"
        return StorageError(f"{where}: could not {action} it ({code}): the bucket is {there}.")
    if status == 412 and action == "read":
        return ObjectMissing(f"{where} is not the version that was listed: it was written since.")
    if status in (409, 412) or (code == "NoSuchKey" and action == "write"):  # If-Match on what was deleted
        return WriteConflict(f"{where} was written by someone else: read it again before writing.")
    if code in MISSING:
        return ObjectMissing(f"{where} does not exist: check the name, and that there is a bucket {bucket!r}.")
    if code in EXPIRED or (status == 400 and code == "400"):  # the answer to HEAD has no body that says why
        return AccessDenied(
            f"{denied}: the credentials have most likely expired: log in again "
            "(or give the pod a role, whose credentials are renewed), then run it again."
        )
    if code.startswith("KMS.") or (status == 403 and KMS.search(message)):
        return AccessDenied(f"{denied}: {_of_key(code, message)}.")
    if status in (401, 403):
        payer = "" if pays else ", and for a bucket whose readers pay set storage.requester_pays: true"
        return AccessDenied(f"{denied}: check the credentials, their policy and the bucket's{payer}.")
    if action == "write" and (code in UNKNOWN or status == 411 or CHECKSUM.search(message)):
        return StorageError(f"{where}: could not write it ({code} {message}): {_of_checksums()}.")
    if code in BUSY or ((status or 0) >= 500 and status != 501) or status == 429:
        return StorageError(
            f"{where}: could not {action} it, after retries ({code} {message}): the store is busy or down: "
            "run it again later."
        )
    return StorageError(f"{where}: could not {action} it: {sentence(f'{code} {message}')}")


def not_kept(where: str) -> StorageError:
    """The error for an object whose bytes are not those that were just written."""
    return StorageError(f"{where}: the store has kept other bytes than those that were written: {_of_checksums()}.")


def _of_key(code: str, message: str) -> str:
    key = KEY.search(message)
    named = f"the KMS key {key[0]}" if key else "the bucket's KMS key"
    if code.startswith("KMS.") and "denied" not in code.lower():
        return f"{named} can't be used ({message}): enable it, or encrypt with another"
    return (
        f"the credentials may not use {named}: they need kms:Decrypt, and to write kms:GenerateDataKey, "
        "in their policy and the key's"
    )


def _of_checksums() -> str:
    if os.environ.get(WITHOUT, "").lower() == "when_required":
        return "it does not know what Thaw needs of S3, perhaps conditional writes (If-None-Match, If-Match)"
    return (
        f"most likely it does not know the checksums that come with what is written: set {WITHOUT}=when_required, "
        "and run it again"
    )
