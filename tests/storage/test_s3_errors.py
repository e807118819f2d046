"""What S3 and stores like it refuse, as a person is told of it; and who says that they pay."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from job.config import Storage
from job.errors import AccessDenied, StorageError
from job.storage import open_store
from job.storage.s3_errors import translated

KEY = "arn:aws:kms:eu-west-1:111122223333:key/0ab1"
OLD = "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
MAY = "they need kms:Decrypt, and to write kms:GenerateDataKey, in their policy and the key's."
READS = [
    (403, "RequestTimeTooSkewed", "The difference is too large.", "this machine's clock is wrong"),
    (301, "PermanentRedirect", "", "the bucket is in another region: set AWS_REGION to that."),
    (403, "AccessDenied", f"not authorized to perform: kms:Decrypt on resource: {KEY}", f"KMS key {KEY}: {MAY}"),
    (
        400,
        "KMS.DisabledException",
        f"{KEY} is disabled.",
        f"the KMS key {KEY} can't be used ({KEY} is disabled.): enable",
    ),
    (403, "AccessDenied", "no", "and for a bucket whose readers pay set storage.requester_pays: true."),
    (501, "NotImplemented", "no versions", "could not read it: NotImplemented no versions"),
]
WRITES = [
    (403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey", f"may not use the bucket's KMS key: {MAY}"),
    (501, "NotImplemented", "A header you provided", OLD),
    (400, "InvalidArgument", "x-amz-sdk-checksum-algorithm", OLD),
    (400, "InvalidRequest", "aws-chunked is not supported", OLD),
    (411, "MissingContentLength", "", OLD),
    (400, "XAmzContentSHA256Mismatch", "", OLD),
    (400, "InvalidArgument", "a name", "could not write it: InvalidArgument a name"),
]


def told(action: str, status: int, code: str, message: str, pays: bool = False, **more: str) -> StorageError:
    answer = {"Error": {"Code": code, "Message": message, **more}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translated(ClientError(answer, "any"), action, "s3://bucket/key", bucket="bucket", pays=pays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "status", "code", "message", "sentence"),
    [*(("read", *one) for one in READS), *(("write", *one) for one in WRITES)],
)
def test_a_refusal_says_what_to_do(action: str, status: int, code: str, message: str, sentence: str) -> None:
    error = told(action, status, code, message)
    assert sentence in str(error)
    assert (
        f"s3://bucket/key: {'not allowed to' if isinstance(error, AccessDenied) else 'could not'} {action} it"
        in str(error)
    )


def test_the_region_is_named_where_it_is_told() -> None:
    told_of = told("list", 400, "AuthorizationHeaderMalformed", "expecting 'eu-west-3'", Region="eu-west-3")
    assert str(told_of).endswith("the bucket is in eu-west-3: set AWS_REGION=eu-west-3.")


def test_what_is_set_already_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "requester_pays" not in str(told("read", 403, "AccessDenied", "no", pays=True))
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED")
    assert "perhaps conditional writes" in str(told("write", 501, "NotImplemented", "A header you provided"))


def test_who_pays_is_said_in_every_request(s3_bucket: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (9 << 20))  # two parts
    said, uri = [], f"s3://{s3_bucket()}/"
    store = pickle.loads(pickle.dumps(open_store(uri, Storage(requester_pays=True))))
    store._client.meta.events.register(
        "before-send.s3", lambda request, **_: said.append(request.headers.get("x-amz-request-payer"))
    )
    store.upload("file", str(tmp_path / "file"))
    store.download("file", str(tmp_path / "back"))
    filesystem, root = store.arrow()
    with filesystem.open_input_file(f"{root}/file") as file:
        file.read(5)
    store.write_if_unchanged("key", store.read("file")[:5], None)
    assert [info.key for info in store.list()] == ["file", "key"]
    store.delete("key")
    assert len(said) >= 12
    assert set(said) == {b"requester"}
    boto3.client("s3").delete_object(Bucket=store.bucket, Key="file")
