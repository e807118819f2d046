"""Schedules, weight decay, factors of learning rates and label smoothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.config import FineTunePhase, Optimization
from job.training.optimization import FIRST, LAST, RISE, Schedule, make_optimizer
from job.training.step import Forward, StepInputs, make_train_steps

STEPS, PER_EPOCH = 100, 10


def rates(**settings: object) -> list[float]:
    phase = FineTunePhase.model_validate({"epochs": 10, "learning_rate": 2.0, **settings})
    schedule = Schedule(phase, highest=2.0, steps_per_epoch=PER_EPOCH)
    return [schedule.rate(step) for step in range(STEPS)]


def test_constant() -> None:
    assert set(rates()) == {2.0}


def test_cosine_falls_to_nothing() -> None:
    found = rates(schedule="cosine")
    assert (found[0], found[50]) == (2.0, pytest.approx(1.0))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.001


def test_one_cycle_rises_and_falls() -> None:
    found = rates(schedule="one_cycle")
    top = round(RISE * STEPS)
    assert (found[0], found[top]) == (pytest.approx(2.0 * FIRST), 2.0)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert 2.0 * LAST < found[-1] < 0.01


def test_warmup_rises_in_a_straight_line_to_the_schedule() -> None:
    found, cosine = rates(schedule="cosine", warmup_epochs=1.5), rates(schedule="cosine")
    assert found[15:] == cosine[15:]
    assert [rate / whole for rate, whole in zip(found[:15], cosine[:15], strict=True)] == pytest.approx(
        [step / 16 for step in range(1, 16)]
    )


def test_a_phase_whose_steps_are_numbered_on_begins_its_schedule_anew() -> None:
    phase = FineTunePhase(epochs=10, learning_rate=2.0, schedule="one_cycle")
    later = Schedule(phase, highest=2.0, steps_per_epoch=PER_EPOCH, first_step=30)
    assert [later.rate(30 + step) for step in range(STEPS)] == rates(schedule="one_cycle")


def variables() -> dict[str, keras.Variable]:
    names = {"dense/kernel": (2, 3), "dense/bias": (3,), "norm/gamma": (3,)}
    return {
        path: keras.Variable(np.ones(shape, np.float32), name=path.replace("/", "_")) for path, shape in names.items()
    }


def test_only_kernels_decay() -> None:
    settings = Optimization(epochs=1, learning_rate=0.1, optimizer="adamw", weight_decay=0.5)
    moved = variables()
    optimizer = make_optimizer(settings, "fine_tune", moved)
    optimizer.apply([tf.zeros(v.shape) for v in moved.values()], tf.constant(0.1))
    assert moved["dense/kernel"].numpy() == pytest.approx(0.95)
    assert moved["dense/bias"].numpy().tolist() == moved["norm/gamma"].numpy().tolist() == [1, 1, 1]


def test_slots_have_the_same_paths_whatever_was_made_before() -> None:
    settings = Optimization(epochs=1, learning_rate=0.1)
    made = [make_optimizer(settings, "head", variables()) for _ in range(2)]
    assert list(made[0].slots) == list(made[1].slots)
    assert made[0].slots.keys() - made[0].moments.keys() == {"head/iteration"}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_factor_scales_the_whole_learning_rate_of_a_variable(optimizer: str) -> None:
    decay = {"weight_decay": 0.3} if optimizer == "adamw" else {}

    def moved(rate: float, factor: float) -> np.ndarray:
        settings = Optimization(epochs=1, learning_rate=rate, optimizer=optimizer, **decay)
        weight = keras.Variable(np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3), name="weight")
        return train(settings, weight, factor, rate, steps=3)

    assert moved(0.1, 0.25) == pytest.approx(moved(0.025, 1.0), rel=1e-4)
    assert np.abs(moved(0.1, 0.25) - moved(0.1, 1.0)).max() > 1e-3


def test_smoothing_is_that_of_keras() -> None:
    logits = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1], np.int32)
    wanted = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(np.eye(3)[labels], logits)
    weight = keras.Variable(logits, name="logits")
    found = losses(Optimization(epochs=1, learning_rate=0.0001), weight, labels, 0.2)
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_mixed_labels_are_those_of_both_examples_with_their_weights() -> None:
    """Of inputs that are the logits themselves."""
    random = np.random.default_rng(0)
    first, other = random.standard_normal((2, 4, 3)).astype(np.float32)
    labels, other_labels = np.array([0, 2, 1, 1], np.int32), np.array([1, 2, 0, 1], np.int32)
    weights, other_weights = random.random((2, 4)).astype(np.float32)
    kept = np.array([1.0, 0.5, 0.9, 0.7], np.float32)
    mixed = kept[:, None] * first + (1 - kept[:, None]) * other
    own, others = (
        keras.losses.sparse_categorical_crossentropy(aims, mixed, from_logits=True) for aims in (labels, other_labels)
    )
    wanted = np.sum(own * weights * kept + others * other_weights * (1 - kept))
    places, proof = np.arange(4, dtype=np.int32), np.zeros(2, np.int64)
    batch = first, labels, weights, places, other, other_labels, other_weights, kept, proof
    settings = Optimization(epochs=1, learning_rate=0.1)
    nothing = keras.Variable(np.zeros([3], np.float32), name="nothing")
    assert run_batch(settings, batch, nothing, lambda inputs, _: inputs + nothing) == pytest.approx(wanted, rel=1e-5)


def train(settings: Optimization, weight: keras.Variable, factor: float, rate: float, steps: int) -> np.ndarray:
    """The variable after some steps on examples that are its rows' places."""
    labels = np.array([0, 2], np.int32)
    run(settings, weight, labels, factor, 0.0, rate, steps)
    return weight.numpy()


def losses(settings: Optimization, weight: keras.Variable, labels: np.ndarray, smoothing: float) -> float:
    return run(settings, weight, labels, 1.0, smoothing, settings.learning_rate, 1)


def run(
    settings: Optimization,
    weight: keras.Variable,
    labels: np.ndarray,
    factor: float,
    smoothing: float,
    rate: float,
    steps: int,
) -> float:
    """The last step's loss where the rows of `weight` are the logits."""
    count = len(labels)
    batch = (
        np.arange(count, dtype=np.int32), labels, np.full(count, 1 / count, np.float32),
        np.arange(count, dtype=np.int32), np.zeros(2, np.int64),
    )  # fmt: skip
    forward = lambda rows, dropout: tf.gather(tf.convert_to_tensor(weight.value), rows)  # noqa: E731
    return run_batch(settings, batch, weight, forward, factor, smoothing, rate, steps)


def run_batch(
    settings: Optimization,
    batch: tuple[np.ndarray, ...],
    weight: keras.Variable,
    forward: Forward,
    factor: float = 1.0,
    smoothing: float = 0.0,
    rate: float = 0.1,
    steps: int = 1,
) -> float:
    """The last step's loss on the same batch again and again."""
    data, strategy = tf.data.Dataset.from_tensors(batch).repeat(), tf.distribute.get_strategy()
    made = make_train_steps(
        strategy,
        tf.data.IteratorSpec(data.element_spec),
        forward=forward,
        optimizer=make_optimizer(settings, "head", {"weight": weight}, multipliers={"weight": factor}),
        jit_compile=False,
        smoothing=smoothing,
    )
    inputs = StepInputs(tf.fill([steps], rate), tf.zeros([steps, 2], tf.int32), tf.zeros([1]))
    return float(made(iter(data), inputs).losses[-1])
