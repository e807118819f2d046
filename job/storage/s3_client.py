"""Clients of boto3 for S3."""

from __future__ import annotations

import os
from typing import Any

from botocore.config import Config
from botocore.loaders import Loader
from botocore.session import Session

from job.config import Storage
from job.storage.objects import CONNECTIONS
from job.storage.s3_pages import parse_time, read_pages

ATTEMPTS = 7
"""Tries of a request, with random pauses of up to 1, 2, 4, … seconds between them, on average half a minute in all."""
CONFIG = Config(
    # In the mode "standard", all threads of a client share a retry budget, which an outage uses up in half a second.
    retries={"mode": "legacy", "total_max_attempts": ATTEMPTS},
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=CONNECTIONS,
)
LOADER = Loader()
"""Loads the description of S3's API once for all clients, which is the slowest part of making a client."""


def make_client(access: Storage) -> Any:
    """A client for one bucket or many, which puts the objects of a page under OBJECTS."""
    session = Session()
    session.register_component("data_loader", LOADER)
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=parse_time)
    client = session.create_client("s3", region_name=_region(), config=CONFIG)
    read_pages(client)
    if access.requester_pays:
        client.meta.events.register("provide-client-params.s3", _pay)
    return client


def _pay(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
    """The parameters of a request, with RequestPayer, for buckets whose readers pay."""
    return params | ({"RequestPayer": "requester"} if "RequestPayer" in model.input_shape.members else {})


def _region() -> str | None:
    """The region from AWS_REGION, which other SDKs and EKS use, or from AWS_DEFAULT_REGION, botocore's only
    variable.
    """
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
