"""What can be seen of `account:` before the first event: a wrong one refuses all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from job.arrival.notifications import NUMBER
from job.arrival.settings import Watch
from job.arrival.targets import Target
from job.errors import StorageError
from job.storage import open_store
from job.storage.s3 import S3Store

IDS = re.compile(r"A[A-Z0-9]{11,31}|[0-9a-f]{64}")
"""Customer ids and canonical ids of AWS."""


def doubts(watch: Watch, targets: Iterable[Target]) -> Iterator[str]:
    """What is wrong with `account:`, or looks so, in sentences."""
    for owner in watch.owners if ".amazonaws." in watch.queue else []:
        if not NUMBER.fullmatch(owner) and not IDS.fullmatch(owner):
            yield (
                f"account: {owner!r} looks neither like an account's number (12 digits; in events of EventBridge) nor "
                "like an owner's id (ownerIdentity.principalId in S3's own events): what differs from it is refused."
            )
    numbers = [owner for owner in watch.owners if NUMBER.fullmatch(owner)]
    for target in targets if numbers else []:
        source = open_store(target.job.data.source, target.job.storage)
        if isinstance(source, S3Store) and not _may_be_of(source, numbers):
            yield (
                f"account: s3://{source.bucket}/, which {target.name} reads, does not belong to "
                f"{' or '.join(numbers)}, says S3: its events by EventBridge will be refused."
            )


def _may_be_of(store: S3Store, numbers: list[str]) -> bool:
    try:
        return any(map(store.is_owned_by, numbers))
    except StorageError:  # who may not look at a bucket may still be told of it
        return True
