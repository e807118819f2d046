"""`storage`: how buckets are asked, where their own clients have no setting for it. None of it changes the result."""

from __future__ import annotations

from pydantic import Field

from job.config.base import Section


class Storage(Section):
    requester_pays: bool = False
    """For buckets of S3 whose readers pay: requests say that you do."""
    billing_project: str | None = Field(None, min_length=1)
    """For buckets of GCS whose readers pay: the project that pays."""
