from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from job.config import Head
from job.model.heads import build_head, head_logits, take_over
from job.model.network import variables_by_path


def test_the_same_seed_gives_the_same_bytes() -> None:
    heads = [variables_by_path(build_head(8, Head(), 3, seed=seed)) for seed in (1, 1, 2)]
    kernels = [head["head_dense_0/kernel"].numpy().tobytes() for head in heads]
    assert kernels[0] == kernels[1] != kernels[2]


@pytest.mark.parametrize("hidden", [[], [16], [16, 8]])
def test_dropout_depends_on_the_place_in_the_global_batch_only(hidden: list[int]) -> None:
    head = build_head(8, Head(hidden=hidden, dropout=0.5), 3, seed=0)
    features = tf.constant(np.random.default_rng(0).random((8, 8)), tf.float32)
    seed, places = tf.constant([1, 2]), tf.range(8)
    whole = head_logits(head, features, seed, positions=places, global_batch_size=8).numpy()
    parts = [
        head_logits(head, features[i : i + 2], seed, positions=places[i : i + 2], global_batch_size=8).numpy()
        for i in range(0, 8, 2)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5)
    assert (
        whole != head_logits(head, features, tf.constant([1, 3]), positions=places, global_batch_size=8).numpy()
    ).any()
    assert (whole != head(features, training=False).numpy()).any()


def test_dropout_keeps_the_expected_value() -> None:
    head = build_head(4, Head(hidden=[], dropout=0.25), 2, seed=0)
    features = tf.ones((20_000, 4))
    mean = (
        head_logits(head, features, tf.constant([0, 0]), positions=tf.range(20_000), global_batch_size=20_000)
        .numpy()
        .mean(axis=0)
    )
    np.testing.assert_allclose(mean, head(features[:1], training=False).numpy()[0], atol=0.02)


def test_a_head_takes_over_the_classes_that_both_have() -> None:
    before, fresh, head = (build_head(8, Head(hidden=[4]), 3, seed=seed) for seed in (1, 2, 2))
    weights = {path: v.numpy() for path, v in variables_by_path(before).items()}
    take_over(head, weights, ["a", "b", "c"], classes=["b", "c", "d"])
    old, new, mine = (variables_by_path(model) for model in (before, fresh, head))
    for path in ("head_dense_0/kernel", "head_dense_0/bias"):
        assert mine[path].numpy().tobytes() == old[path].numpy().tobytes()
    for path in ("head_logits/kernel", "head_logits/bias"):
        np.testing.assert_array_equal(mine[path].numpy()[..., :2], old[path].numpy()[..., 1:])
        np.testing.assert_array_equal(mine[path].numpy()[..., 2], new[path].numpy()[..., 2])


def test_a_head_of_other_classes_alone_takes_over_the_hidden_layers() -> None:
    before, fresh, head = (
        build_head(8, Head(hidden=[4]), 2, seed=1),
        *(build_head(8, Head(hidden=[4]), 3, seed=2) for _ in "ab"),
    )
    take_over(
        head, {path: v.numpy() for path, v in variables_by_path(before).items()}, ["x", "y"], classes=["a", "b", "c"]
    )
    kernels = [variables_by_path(model)["head_logits/kernel"].numpy().tobytes() for model in (fresh, head)]
    assert kernels[0] == kernels[1]
