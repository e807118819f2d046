"""What is stored of what a run needs, and copies across the splits."""

from __future__ import annotations

import numpy as np
import pytest

from job.data.splits import SPLITS
from job.evaluation.duplicates import near_duplicates
from job.features.rows import Rows
from job.features.store import ADDRESS, Featurizer, address_of
from job.planning.cached import look_up
from job.storage import Store, open_store
from support.stored import write_part

N = 120
COUNTS = {"train": {"a": 40, "b": 40}, "validation": {"a": 10, "b": 10}, "test": {"a": 10, "b": 10}}
ROWS = Rows(
    np.array([address_of("test", f"{i}", "1") for i in range(N)], ADDRESS),
    np.repeat([0, 1, 2], [80, 20, 20]).astype(np.int8),
    (np.arange(N) % 2).astype(np.int32),
)


@pytest.fixture
def store(tmp_path: object) -> Store:
    found = open_store(f"file://{tmp_path}/store/")
    found.write("x", b"")
    return found


def pooled(view: int = 0, width: int = 16) -> Featurizer:
    return Featurizer("pooled", view, "float32", (width,), {"augment": view})


AT_CUT = Featurizer("cut", 0, "float16", (2, 2, 8), {})


def no_rows() -> Rows:
    raise AssertionError("rows are not needed where nothing is stored")


def test_nothing_is_stored_and_the_rows_are_not_asked_for(store: Store) -> None:
    found = look_up(store, [pooled(), pooled(1), AT_CUT], no_rows, counts=COUNTS)
    assert [(t.tap, t.views, t.needed, t.stored, t.missing) for t in found.tensors] == [
        ("pooled", 2, 200, 0, 200),
        ("cut", 1, 120, 0, 120),
    ]
    assert (found.examples, found.passes) == (120, 200)
    assert found.to_write == 200 * 64 + 120 * 64


def test_what_is_stored_is_counted_by_view_and_known_rejects_apart(store: Store) -> None:
    values = np.zeros((50, 16), np.float32)
    bad = address_of("test", "119", "1")
    write_part(store, pooled(), ROWS.addresses[:50], values=values, rejects=[(bad, "not an image")])
    write_part(store, pooled(1), ROWS.addresses[:10], values=values[:10])
    found = look_up(store, [pooled(), pooled(1)], lambda: ROWS, counts=COUNTS)
    (tensor,) = found.tensors
    assert (tensor.needed, tensor.stored, tensor.rejected, tensor.missing) == (200, 60, 1, 139)
    assert found.examples == 109  # all but 10 that have both, and the reject
    assert found.passes == 69 + 70
    assert found.rejects == {"not an image": 1}


@pytest.mark.parametrize("width", [16, 700], ids=["whole", "projected"])
def test_copies_across_the_splits_are_found_with_their_labels(store: Store, width: int) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((N, width)).astype(np.float32)
    values[90] = values[4]  # of the same label
    values[111] = values[6] + 0.001  # of another one
    values[100] = values[101]  # both held out: no leak
    values[5] = np.nan
    for begin in range(0, N, 30):
        write_part(store, pooled(width=width), ROWS.addresses[begin : begin + 30], values=values[begin : begin + 30])
    found = near_duplicates(store, pooled(width=width), ROWS)
    assert (found.compared, found.pairs, found.other_label, found.note) == ((40, 80), 2, 1, "")
    assert [pair[:2] for pair in found.nearest] == [(90, 4), (111, 6)]


def test_what_was_not_compared_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "once they are computed" in near_duplicates(store, pooled(), ROWS).note
    values = np.random.default_rng(0).standard_normal((N, 16)).astype(np.float32)
    order = np.random.default_rng(1).permutation(N)
    for begin in range(0, 90, 30):
        some = order[begin : begin + 30]
        write_part(store, pooled(), ROWS.addresses[some], values=values[some])
    monkeypatch.setattr("job.evaluation.duplicates.MOST", 60)
    found = near_duplicates(store, pooled(), ROWS)
    assert sum(found.compared) == 60
    assert found.note.endswith("of 80 training examples; 30 have no features so far")
    assert ROWS.splits[0] == SPLITS.index("train")


def test_a_part_that_is_not_what_was_written_leaves_it_unknown(store: Store) -> None:
    part = write_part(store, pooled(), ROWS.addresses, values=np.ones((N, 16), np.float32))
    store.write(f"features/{pooled().id}/{part.file}.arrow", b"truncated")
    found = near_duplicates(store, pooled(), ROWS)
    assert found.compared == (0, 0)
    assert "is not what was written" in found.note
