"""Word vectors as a network: what they answer, what of them trains, and what a head makes of them."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load, save

from job.config import Head, Model, UnfreezeBlocks, UnfreezeFrom, UnfreezeWords
from job.model.backbones import build_base
from job.model.cut import legal_cuts
from job.model.freezing import freeze, thaw
from job.model.heads import build_head, head_logits
from job.model.network import build_network, variables_by_path
from job.model.words import Vocabulary
from job.training.optimization import PhaseOptimizer
from job.training.step import StepInputs, make_train_steps

LENGTH, DIMENSIONS = 6, 4
IDS = np.array([70, 20, 2**61, 5, 33], np.int64)
VALUES = np.random.default_rng(0).normal(size=(5, DIMENSIONS)).astype(np.float32)
TEXTS = np.array([[20, 33, 20, 0, 0, 0], [2**61, 999, 5, 70, 0, 0], [999, 6, 0, 0, 0, 0], [0] * 6], np.int64)
"""999 and 6 are unknown words."""


def base(trained: int = 2, **settings: object) -> keras.Model:
    model = Model(backbone="glove", weights="file:///v.txt", max_tokens=LENGTH, **settings)
    return build_base(model, vocabulary=Vocabulary(IDS, VALUES, trained))


@pytest.mark.parametrize("trained", range(6))
def test_a_text_is_the_mean_of_its_known_words(trained: int) -> None:
    of = dict(zip(IDS.tolist(), VALUES, strict=True))
    known = [[20, 33, 20], [2**61, 5, 70]]
    means = [np.mean([of[id] for id in text], axis=0) for text in known]
    answer = base(trained)(TEXTS, training=False).numpy()
    np.testing.assert_allclose(answer[:2], means, rtol=1e-6)
    np.testing.assert_array_equal(answer[2:], np.zeros([2, DIMENSIONS]))


def test_features_do_not_depend_on_which_other_words_are_known() -> None:
    """To the bit: what was stored before words came stays right after they came."""
    order = np.array([3, 1, 4, 0, 2])
    more = np.concatenate([IDS, np.arange(1000, 3000)]), np.concatenate([VALUES, np.ones([2000, 4], np.float32)])
    plain = base(1)(TEXTS, training=False).numpy()
    for vocabulary in (Vocabulary(*more, trained=900), Vocabulary(IDS[order], VALUES[order])):
        model = Model(backbone="glove", weights="file:///v.txt", max_tokens=LENGTH)
        other = build_base(model, vocabulary=vocabulary)(TEXTS, training=False).numpy()
        np.testing.assert_array_equal(other, plain)


def test_without_pooling_unknown_words_are_zeros_in_their_places() -> None:
    answer = base(encoder="gru")(TEXTS, training=False).numpy().reshape(4, LENGTH, DIMENSIONS)
    np.testing.assert_array_equal(answer[1, 0], VALUES[2])
    np.testing.assert_array_equal(answer[1, 1], np.zeros(DIMENSIONS))
    np.testing.assert_array_equal(answer[1, 2], VALUES[3])
    assert not answer[1, 4:].any()


RULES = [UnfreezeBlocks(blocks=1), UnfreezeWords(words=2), UnfreezeFrom(**{"from": "word_vectors"})]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_the_table_that_trains_moves(rule: object, optimizer: str) -> None:
    network = build_network(base(2), build_head(DIMENSIONS, Head(hidden=[]), 3, seed=0))
    freeze(network.model)
    assert len(legal_cuts(network.base)) > 0
    thaw(network.base, rule)
    assert legal_cuts(network.base) == [], "what the rows of a run's words are is nothing to store"
    before = {path: np.array(v.numpy()) for path, v in variables_by_path(network.base).items()}
    assert {path for path, v in variables_by_path(network.model).items() if v.trainable} == {"word_vectors/trained"}
    variables = {path: v for path, v in variables_by_path(network.model).items() if v.trainable}
    made = keras.optimizers.SGD(1.0) if optimizer == "sgd" else keras.optimizers.AdamW(0.1, weight_decay=0.5)
    made.build(list(variables.values()))

    def batches() -> tf.data.Dataset:
        labels, weights = np.array([0, 1, 2, 0], np.int32), np.full(4, 0.25, np.float32)
        batch = (TEXTS, labels, weights, np.arange(4, dtype=np.int32), np.zeros(2, np.int64))
        return tf.data.Dataset.from_tensors(batch).repeat()

    def forward(words: tf.Tensor, dropout: object) -> tf.Tensor:
        return network.model(words, training=False)

    spec = tf.data.IteratorSpec(batches().element_spec)
    steps = make_train_steps(
        tf.distribute.get_strategy(),
        spec,
        forward=forward,
        optimizer=PhaseOptimizer(made, variables),
        jit_compile=False,
        smoothing=0.0,
    )
    steps(iter(batches()), StepInputs(tf.constant([0.1] * 3), tf.zeros([3, 2], tf.int32), tf.zeros([1])))
    after = {path: np.array(v.numpy()) for path, v in variables_by_path(network.base).items()}
    assert (before["word_vectors/trained"] != after["word_vectors/trained"]).any(axis=1).all()
    for path in before.keys() - {"word_vectors/trained"}:
        assert before[path].tobytes() == after[path].tobytes(), path


@pytest.mark.parametrize("encoder", ["conv", "gru"])
def test_an_encoder_belongs_to_the_head(encoder: str) -> None:
    features = LENGTH * DIMENSIONS
    heads = [
        build_head(features, Head(hidden=[8], dropout=0.5), 3, seed=seed, encoder=encoder, words=LENGTH)
        for seed in (1, 1, 2)
    ]
    weights = [[v.numpy().tobytes() for v in head.trainable_variables] for head in heads]
    assert weights[0] == weights[1] != weights[2]
    network = build_network(base(encoder=encoder), heads[0])
    whole = network.model(TEXTS, training=False).numpy()
    apart = heads[0](network.base(TEXTS, training=False), training=False).numpy()
    np.testing.assert_allclose(whole, apart, rtol=1e-5, atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 1e-4
    training = head_logits(
        heads[0], network.base(TEXTS), tf.constant([0, 0]), positions=tf.range(4), global_batch_size=4
    )
    assert training.shape == (4, 3)
    assert {path.split("/")[0] for path in variables_by_path(heads[0])} >= {f"head_{encoder}"}


def test_a_recurrent_encoder_passes_over_unknown_words() -> None:
    head = build_head(LENGTH * DIMENSIONS, Head(hidden=[]), 2, seed=0, encoder="gru", words=LENGTH)
    network = build_network(base(encoder="gru"), head)
    with_unknown, without = np.array([[20, 999, 5, 0, 0, 0]]), np.array([[20, 5, 0, 0, 0, 0]])
    answers = [network.model(words, training=False).numpy() for words in (with_unknown, without)]
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)


def test_a_saved_network_is_loaded_with_its_words(tmp_path: Path) -> None:
    whole = base(2)
    whole.save(tmp_path / "words.keras")
    loaded = keras.saving.load_model(tmp_path / "words.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(TEXTS), whole(TEXTS))
    tensors = {path: v.numpy() for path, v in variables_by_path(whole).items()}
    assert load(save(tensors))["word_vectors/frozen_ids"].tolist() == sorted(IDS[2:].tolist())


def test_a_network_of_the_users_own_takes_the_ids(tmp_path: Path) -> None:
    """It makes its own rows of them: stock layers of Keras, no code."""
    words = keras.Input([LENGTH], dtype="int64")
    vectors = keras.layers.Embedding(50, 8, name="embedding")(keras.layers.Hashing(50)(words))
    keras.Model(words, vectors).save(tmp_path / "own.keras")
    model = Model(backbone=f"file://{tmp_path}/own.keras", max_tokens=LENGTH)
    own = build_base(model, str(tmp_path / "own.keras"))
    assert (own.input_shape, own.output_shape) == ((None, LENGTH), (None, 8))
    assert own(TEXTS, training=False).numpy().any()
