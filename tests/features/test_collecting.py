"""Features are stored in files that are worth a request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from job.features import collecting
from job.features.collecting import Collector, write_collected
from job.features.extraction import NewPart
from job.features.store import ADDRESS, Featurizer, address_of, read_part, stored_features
from job.storage import Store
from support.stored import POOLED

OTHER = replace(POOLED, view=1)


def chunk(*numbers: int, featurizer: Featurizer = POOLED, rejects: int = 0) -> NewPart:
    """Each value is the number of its example; 12 bytes each."""
    addresses = np.array([address_of("file:///s/", f"{number}", "1") for number in numbers], ADDRESS)
    values = np.repeat(np.array(numbers, np.float32), 3).reshape(-1, 3)
    return NewPart(featurizer, addresses, values, [(bytes([n] * 16), "broken") for n in range(1, rejects + 1)])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "FILE_BYTES", 60)
    monkeypatch.setattr(collecting, "PART_BYTES", 24)


@pytest.mark.usefixtures("small")
def test_features_become_a_file_once_there_are_enough_of_a_featurizer() -> None:
    collector = Collector()
    assert collector.add([chunk(1, 2), chunk(1, 2, featurizer=OTHER)]) == []
    assert collector.add([chunk(3)]) == []
    ((first, second, third),) = collector.add([chunk(4, 5), chunk(3, featurizer=OTHER)])
    assert [part.values[0, 0] for part in (first, second, third)] == [1, 3, 4]
    (others,) = collector.rest()
    assert [part.featurizer for part in others] == [OTHER, OTHER]
    assert collector.rest() == []


def test_what_waits_long_becomes_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    collector = Collector()
    assert collector.add([chunk(1)]) == []
    now[0] += collecting.SECONDS
    assert len(collector.add([chunk(2), chunk(2, featurizer=OTHER)])) == 2
    assert collector.add([chunk(3)]) == []


def test_what_waits_is_bounded_for_all_featurizers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MOST_BYTES", 60)
    collector = Collector()
    assert collector.add([chunk(1, 2), chunk(1, featurizer=OTHER)]) == []
    ((largest, _),) = collector.add([chunk(3, 4)])
    assert largest.featurizer == POOLED
    assert len(collector.rest()) == 1


@pytest.mark.usefixtures("small")
def test_a_file_has_parts_that_are_read_alone(store: Store) -> None:
    write_collected(store, [chunk(1), chunk(2), chunk(), chunk(3, 4, 5), chunk(6, rejects=2)])
    found = stored_features(store, POOLED)
    assert [part.rows for part in found.parts] == [2, 2, 2]
    assert len({part.file for part in found.parts}) == 1
    (key,) = [info.key for info in store.list("features/") if info.key.endswith(".arrow")]
    assert sum(part.size for part in found.parts) == len(store.read(key))
    for part, numbers in zip(found.parts, [(1, 2), (3, 4), (5, 6)], strict=True):
        addresses, values = read_part(store, POOLED, part)
        assert (addresses == chunk(*numbers).addresses).all()
        assert (values == chunk(*numbers).values).all()
    assert list(found.rejects.values()) == ["broken", "broken"]
    assert found.find(chunk(4).addresses) == (np.array([1]), np.array([1]))
    write_collected(store, [chunk(*range(10, 16))])
    assert [part.rows for part in stored_features(store, POOLED).parts] == [2] * 6, "also of a large chunk"


def test_rejects_alone_are_a_marker_without_a_file(store: Store) -> None:
    write_collected(store, [chunk(rejects=1)])
    assert [info.key.rpartition(".")[2] for info in store.list("features/")] == ["json"]
    assert stored_features(store, POOLED).rejects == {b"\1" * 16: "broken"}
