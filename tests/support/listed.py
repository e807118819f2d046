"""The items of a listing, one by one."""

from __future__ import annotations

from typing import Any

from job.config import Data
from job.data.items import Listed
from job.data.labels import labelled
from job.storage import Store


def list_items(data: Data, source: Store, store: Store | None = None, **options: Any) -> list[Listed]:
    """What `labelled` lists."""
    return [item for items in labelled(data, source, store, **options) for item in items.rows()]
