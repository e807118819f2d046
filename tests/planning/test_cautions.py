"""Each caution comes where it should, and a sound job has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from job.config.jobfile import parse_job
from job.data.caution import Caution
from job.data.snapshot import Snapshot
from job.data.text import inspect_text
from job.evaluation.duplicates import Duplicates
from job.executors.placement import with_workers
from job.features.cache_plan import Plan
from job.model.anatomy import Anatomy, BlockSize
from job.model.classifier import Classifier
from job.model.resolved import ResolvedBase
from job.planning.cached import Cached, MissingFeatures
from job.planning.cautions import cautions
from job.planning.costs import MemoryNeed
from job.planning.document import Forecast
from job.planning.headers import Headers, Looks
from job.planning.listing import Seen
from job.planning.planned import PlannedRun

JOB = """
name: sound
data: {source: s3://bucket/source/}
store: s3://bucket/store/
"""


def snapshot_of(train: tuple[int, int] = (5000, 4000), **splits: dict[str, int]) -> Snapshot:
    held = {"a": 1000, "b": 900}
    table = {"train": dict(zip("ab", train, strict=True)), "validation": held, "test": held}
    return Snapshot("0" * 20, 9000, ["a", "b"], table | splits, {}, {})


def blocks_of(frozen: int) -> tuple[BlockSize, ...]:
    """Ten, of which the lowest are frozen."""
    return tuple(BlockSize(f"block{i}", 3, 100, 100 * (i >= frozen)) for i in range(10))


ANATOMY = Anatomy(blocks_of(8), 1000, 700, 500, 100, ("top",))


def known(
    *settings: str,
    snapshot: Snapshot = snapshot_of(),  # noqa: B008 - frozen
    share: float = 1.0,
    anatomy: Anatomy = ANATOMY,
    **changed: Any,
) -> Forecast:
    job = parse_job(JOB, settings)
    job = with_workers(job, "local", 1) if job.scaling.workers == "auto" else job
    base, plan = ResolvedBase("0" * 64), Plan(4)
    sound = Forecast(
        listed=Seen(snapshot, "", share, 0.0),
        run=PlannedRun(job, None, base, plan, anatomy, prepared=True, words=None),
        headers=Headers(256, {}, [], []),
        duplicates=Duplicates((100, 100), (100, 100), 0, 0, [], ""),
        missing=MissingFeatures([Cached("pooled", 1, "float32", (4,), 16, 100, 0)], 100, 100, {}),
        phases=[],
        memory=MemoryNeed(*[1] * 8),
        counts={},
        stages=[],
        speeds=None,
        history=None,
        note="",
    )
    return replace(sound, **changed)


def test_a_sound_job_has_no_caution() -> None:
    assert cautions(known()) == []


@pytest.mark.parametrize(
    ("settings", "setting", "text"),
    [
        (["phases.head.learning_rate=0.1"], "phases.head.learning_rate", "0.1 is 100 times what adam usually takes"),
        (["phases.fine_tune.learning_rate=0.01"], "phases.fine_tune.learning_rate", "good weights are likely"),
        (["phases.fine_tune.learning_rate=1e-7"], "phases.fine_tune.learning_rate", "a 1,000th of what adam"),
        (["phases.head.epochs=5"], "phases.head.epochs", "can't reach a patience of 5"),
        (["model.weights=none"], "model.weights", "nothing to transfer"),
        (["scaling.workers=100"], "scaling.workers", "36 of 100 workers would be idle"),
        (["train.batch_size=20000"], "train.batch_size", "more than the 9000 training examples"),
    ],
)
def test_a_setting_far_from_what_works_is_named(settings: list[str], setting: str, text: str) -> None:
    (found,) = cautions(known(*settings))
    assert found.setting == setting
    assert text in found.text


def test_a_backbone_that_ends_in_a_classifier_is_named_with_the_layer_to_end_at() -> None:
    anatomy = replace(ANATOMY, classifier=Classifier("classes", 5, "softmax", "pool"))
    (found,) = cautions(known(anatomy=anatomy))
    assert found.setting == "model.end_at"
    assert found.text.startswith("efficientnet_lite0 ends in a classifier of its own (classes)")
    assert found.text.endswith("Write model.end_at: pool; or classes, where that is meant.")
    assert cautions(known("model.end_at=classes", anatomy=anatomy)) == []


def test_rates_that_are_usual_for_the_optimizer_are_none() -> None:
    assert cautions(known("phases.head={optimizer: sgd, learning_rate: 0.1}", "phases.head.learning_rate=auto")) == []
    assert cautions(known("phases.head={optimizer: sgd, learning_rate: 0.1}")) == []


def test_a_class_of_three_examples_and_one_that_a_split_lacks() -> None:
    found = cautions(known(snapshot=snapshot_of((5000, 3))))
    assert [caution.setting for caution in found] == ["data", "train.class_weights"]
    assert found[0].text.startswith("'b': fewer than 10 training examples (3 of 'b')")
    (found,) = cautions(known(snapshot=snapshot_of(test={"a": 1900, "b": 0})))
    assert (found.setting, "no example of 'b' is on the test side" in found.text) == ("data.split", True)


def test_a_small_validation_split_is_told_with_what_it_shows() -> None:
    (found,) = cautions(known(snapshot=snapshot_of(validation={"a": 200, "b": 210})))
    assert found.setting == "data.split.validation"
    assert "±2.9%" in found.text


def test_more_than_half_of_the_network_is_told() -> None:
    (found,) = cautions(known(anatomy=replace(ANATOMY, blocks=blocks_of(4))))
    assert found.setting == "phases.fine_tune.unfreeze"
    assert found.text.startswith("6 of the network's 10 blocks are thawed, more than half")


def test_rejects_copies_and_memory() -> None:
    (found,) = cautions(known(headers=Headers(256, {"not an image": 20}, [], [])))
    assert (found.setting, "will end with exit code 3" in found.text) == ("data.max_rejects", True)
    (found,) = cautions(known(duplicates=Duplicates((100, 100), (100, 100), 7, 2, [], "")))
    assert found.text.startswith("7 of 100 held-out examples are nearly the same as a training example, 2 of them with")


TEXTS = ["task=text", "model={backbone: glove, weights: /v.txt}"]


def test_what_was_assumed_of_a_label_file_is_told() -> None:
    told = Caution("data.table", "labels.csv: matched in another case.")
    assert cautions(known(snapshot=replace(snapshot_of(), cautions=[told]))) == [told]


def test_texts_of_another_encoding_are_counted() -> None:
    reasons = {str(inspect_text("größe".encode("cp1252"))): 12, "empty object": 1}
    found = cautions(known(*TEXTS, headers=Headers(256, reasons, [], [])))
    assert [caution.setting for caution in found] == ["data.max_rejects", "data.encoding"]
    assert found[1].text.startswith("12 of 256 sampled texts are not UTF-8, and will be rejected (most likely Windows-")
    headers = Headers(256, {}, [], ["größe".encode(), "größe".encode("cp1252"), b"plain"])
    (found,) = cautions(known(*TEXTS, "data.encoding=cp1252", headers=headers))
    assert found.text.startswith("1 of 3 sampled texts look like UTF-8 that is read as cp1252")


@pytest.mark.parametrize(
    ("settings", "looks", "setting", "text"),
    [
        ([], Looks(100, 7), "data", "7 of 100 sampled pictures are animated, or have pages, and only the first is"),
        (
            [],
            Looks(100, 0, 90, (3, 4000, 16)),
            "data.value_range",
            "90 of 100 sampled pictures have 16 bits, and values of 3 to 4000 alone: 16 of 256 shades are left of "
            "them. Set data.value_range: [0, 4095].",
        ),
        ([], Looks(9, 0, 9, (30000, 31000, 16)), "data.value_range", "Set data.value_range: [30000, 32767]."),
        (
            ["data.value_range=[0, 4095]"],
            Looks(9),
            "data.value_range",
            "none of 9 sampled pictures has more than 8 bits",
        ),
    ],
)
def test_what_is_lost_of_pictures_is_told(settings: list[str], looks: Looks, setting: str, text: str) -> None:
    (found,) = cautions(known(*settings, headers=Headers(256, {}, [], [], looks)))
    assert found.setting == setting
    assert text in found.text


def test_pictures_whose_values_are_used_well_are_none() -> None:
    for settings, values in (((), (0, 7000, 16)), ((), (5, 4000, 12)), (("data.value_range=[0, 99]",), (0, 99, 16))):
        assert cautions(known(*settings, headers=Headers(256, {}, [], [], Looks(9, 0, 9, values)))) == []


def test_memory_that_this_machine_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where RAY_ADDRESS is set, for a run that is embedded nevertheless."""
    much = MemoryNeed(2**50, *[0] * 7)
    (found,) = cautions(known("scaling.workers=2", memory=much))
    assert found.setting == "scaling.workers"
    assert found.text.startswith("2 workers of 1048576.0 GiB each are more than the ")
    for address in ("", "10.0.0.1:6379"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        (found,) = cautions(known(memory=much))
        assert found.setting == "train.batch_size"
        assert found.text.startswith("The run needs 1048576.0 GiB, more than the ")
    assert cautions(known("scaling.workers=2", memory=much)) == []


def test_a_part_of_the_source_tells_nothing_of_its_classes() -> None:
    table = {"train": {"a": 20, "b": 0}, "validation": {"a": 0, "b": 0}, "test": {"a": 1, "b": 0}}
    snapshot = Snapshot("0" * 20, 21, ["a", "b"], table, {}, {})
    assert cautions(known(snapshot=snapshot, share=0.01)) == []
