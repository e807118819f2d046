from __future__ import annotations

from itertools import chain

import pyarrow as pa
import pytest

from job.data.listing import spooled as module
from job.data.listing.spooled import spooled
from job.storage import ObjectInfo, objects
from job.storage.objects import in_pages


@pytest.mark.parametrize("count", [0, 1, 6, 7, 20])
def test_a_listing_can_be_gone_through_again_in_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE", 3)
    monkeypatch.setattr(module, "MANY", 2)
    listing = [ObjectInfo(f"kät/{n:02d}", n, f"v{n}", None if n % 2 else n / 2) for n in range(count)]
    with spooled(in_pages(listing)) as spool:
        for _ in range(2):
            found = list(spool.objects())
            assert [(one, one.modified) for one in found] == [(one, one.modified) for one in listing]
            parts = list(map(pa.Array.to_pylist, spool.keys()))
            assert list(chain(*parts)) == [one.key for one in listing]
            assert all(0 < len(part) <= 6 for part in parts)
