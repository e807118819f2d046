"""Whatever the bytes of a label file, a text or a file of vectors are, Thaw reads them or says what is wrong."""

from __future__ import annotations

import pytest

from support.cases import slow
from support.fuzz_tables import KINDS, fuzz


@pytest.mark.parametrize(
    ("kind", "count"), [*((kind, 200) for kind in KINDS), *slow(*((kind, 20_000) for kind in KINDS))]
)
def test_a_mutated_file_is_read_or_refused(kind: str, count: int) -> None:
    read, refused = fuzz(kind, count)
    assert min(read, refused) > count / 50
