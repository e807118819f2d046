"""What is equal enough, and what an unequal file is told to be."""

from __future__ import annotations

import numpy as np
import pytest

from job.errors import JobError
from job.export.formats.check import COARSE, OF_LOGITS, TOLERANCES, Agreement, Answers, check
from job.export.formats.check import compare as compare_answers


def chances(of_first: list[float]) -> np.ndarray:
    first = np.array(of_first, np.float32)
    return np.stack([first, 1 - first], axis=1)


def compare(keras: np.ndarray, file: np.ndarray, labels: np.ndarray) -> Agreement:
    """Of probabilities whose logits are equal."""
    logits = np.zeros_like(keras)
    return compare_answers(Answers(logits, keras), Answers(logits, file), labels)


LABELS = np.arange(100) % 2
RIGHT = chances([0.9, 0.1] * 50)


def moved(by: float) -> np.ndarray:
    other = RIGHT.copy()
    other[0] += np.array([-by, by], np.float32)
    return other


@pytest.mark.parametrize("name", TOLERANCES)
def test_a_float_format_differs_by_no_more_than_its_tolerance(name: str) -> None:
    most = TOLERANCES[name]
    assert check(name, compare(RIGHT, moved(most * 0.9), LABELS))["largest_difference"] == pytest.approx(
        most * 0.9, 0.01
    )
    with pytest.raises(JobError, match=rf"{name}: not written.* differ by up to {most * 1.5:.2g}"):
        check(name, compare(RIGHT, moved(most * 1.5), LABELS))


def test_in_bfloat16_the_network_itself_may_differ_by_more() -> None:
    found = compare(RIGHT, moved(COARSE * 0.9), LABELS)
    assert check("keras", found, coarse=True)["allowed"] == {
        **dict.fromkeys(("largest_difference", "widest_tie", "largest_logit_difference"), COARSE)
    }
    with pytest.raises(JobError, match="as the network that was trained"):
        check("keras", found)
    with pytest.raises(JobError, match="as the network that was trained"):
        check("keras", compare(RIGHT, moved(COARSE * 1.1), LABELS), coarse=True)


def test_another_class_is_a_tie_within_the_tolerance_or_an_error() -> None:
    most = TOLERANCES["tflite_float16"]
    tie = compare(chances([0.5 + most * 0.2]), chances([0.5 - most * 0.2]), np.zeros(1, int))
    assert (tie.same_class, check("tflite_float16", tie)["accuracy"]) == (0, 0)
    wider = compare(chances([0.5 + most * 0.9]), chances([0.5 - most * 0.05]), np.zeros(1, int))
    assert wider.largest_difference < most
    with pytest.raises(JobError, match=r"0\.0% keep their class"):
        check("tflite_float16", wider)


def turned(count: int) -> np.ndarray:
    """So many classes are others; as many wrong ones become right, where there are any."""
    other = RIGHT.copy()
    other[:count] = other[:count, ::-1]
    return other


def test_int8_may_lose_two_points_of_accuracy_and_no_more() -> None:
    assert check("tflite_int8", compare(RIGHT, turned(2), LABELS))["accuracy"] == pytest.approx(0.98)
    with pytest.raises(JobError, match=r"accuracy is 0\.9700 instead of 1\.0000 .*: use tflite_float16"):
        check("tflite_int8", compare(RIGHT, turned(3), LABELS))


def test_int8_must_keep_nine_classes_of_ten_though_its_accuracy_be_the_same() -> None:
    labels = LABELS.copy()
    labels[:6] = 1 - labels[:6]  # Keras is wrong about six
    assert check("tflite_int8", compare(RIGHT, turned(10), labels))["same_class"] == pytest.approx(0.9)
    with pytest.raises(JobError, match=r"89\.0% keep their class"):
        check("tflite_int8", compare(RIGHT, turned(11), labels))


def test_one_example_of_few_may_always_differ() -> None:
    few = slice(0, 8)
    assert check("tflite_int8", compare(RIGHT[few], turned(1)[few], LABELS[few]))["same_class"] == 7 / 8


@pytest.mark.parametrize("name", [*TOLERANCES, "tflite_int8"])
def test_an_answer_that_is_not_a_number_is_never_equal(name: str) -> None:
    broken = RIGHT.copy()
    broken[3] = np.nan
    with pytest.raises(JobError, match="not written"):
        check(name, compare(RIGHT, broken, LABELS))


@pytest.mark.parametrize("name", OF_LOGITS)
def test_logits_are_compared_where_probabilities_say_nothing(name: str) -> None:
    """All are 0 or 1: the class is the same with logits that are far from what they should be."""
    wanted = np.where(RIGHT > 0.5, 80.0, -80.0).astype(np.float32)
    certain, most = (RIGHT > 0.5).astype(np.float32), OF_LOGITS[name]
    for part, equal in ((0.9 * most, True), (1.1 * most, False)):
        found = compare_answers(Answers(wanted, certain), Answers(wanted * (1 - part), certain), LABELS)
        assert (found.logit_scale, found.largest_difference, found.same_class) == (80, 0, 1)
        if equal:
            assert check(name, found)["largest_logit_difference"] == pytest.approx(part, rel=1e-3)
        else:
            with pytest.raises(JobError, match=rf"{name}: not written.* logits, of up to 80, differ by up to "):
                check(name, found)


def test_small_logits_are_compared_as_they_are() -> None:
    """They come of sums of larger numbers, which are rounded as these."""
    small = np.full([2, 2], 1e-3, np.float32)
    found = compare_answers(Answers(small, small), Answers(small * 1.5, small), np.zeros(2, int))
    assert (found.logit_scale, found.largest_logit_difference) == (1, pytest.approx(5e-4, rel=1e-3))
