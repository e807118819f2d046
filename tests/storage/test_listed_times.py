"""The times of a listing, as botocore reads them."""

from __future__ import annotations

import pytest
from botocore.utils import parse_timestamp

from job.storage.s3 import parse_time


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-26T13:55:00.000Z",
        "2026-11-26T13:55:00Z",
        "2026-11-26T13:55:00.123456+02:00",
        "Thu, 26 Nov 2026 13:55:00 GMT",
        "1795701300",
    ],
)
def test_a_time_is_what_botocore_makes_of_it(value: str) -> None:
    assert parse_time(value).timestamp() == parse_timestamp(value).timestamp()


def test_what_is_no_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_time("2026-99-99")
