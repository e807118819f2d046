from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from job.data.dataset import class_weight_vector
from job.data.features import local_features, read_complete, shard_key, write_complete, write_shard
from job.errors import StorageError
from job.storage import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store/")


def write(store: Store) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images, pooled = random.integers(0, 256, (5, 4, 4, 3)).astype(np.uint8), random.random((5, 7)).astype(np.float32)
    rejects = [("a/x.png", "a", "not an image")]
    shards = [
        write_shard(store, "f", 0, np.array([0, 2, 3]), images[:3], pooled[:3], rejects),
        write_shard(store, "f", 1, np.array([4, 5]), images[3:], pooled[3:], []),
    ]
    assert read_complete(store, "f") is None
    write_complete(store, "f", shards)
    assert read_complete(store, "f") == shards
    return images, pooled


def test_features_come_back_to_the_bit(store: Store, tmp_path: Path) -> None:
    images, pooled = write(store)
    features = local_features(store, "f", str(tmp_path / "cache"))
    assert features.rows.tolist() == [0, 2, 3, 4, 5]
    assert features.images.tobytes() == images.tobytes()
    assert features.pooled.tobytes() == pooled.tobytes()


def test_a_tampered_shard_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    write(store)
    key = shard_key("f", 1)
    content = bytearray(store.read(key))
    content[100] ^= 1
    store.write(key, bytes(content))
    with pytest.raises(StorageError, match="shard-00001"):
        local_features(store, "f", str(tmp_path / "cache"))


def test_features_without_their_marker_are_not_there(store: Store, tmp_path: Path) -> None:
    write_shard(store, "f", 0, np.array([0]), np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 3), np.float32), [])
    with pytest.raises(StorageError, match="not complete"):
        local_features(store, "f", str(tmp_path / "cache"))


def test_auto_class_weights_make_classes_count_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weight_vector("auto", ["a", "b"], labels)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weight_vector({"b": 3.0}, ["a", "b"], labels).tolist() == [1, 3]
