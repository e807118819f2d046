"""What is stored and what is computed again, by the job file, the network and the disk."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import keras
import pytest

from job.config import Job, Model, Train, UnfreezeBlocks, UnfreezeMatch
from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot
from job.errors import JobError, StorageError
from job.features.cache_plan import Plan, choose_plan, featurizers, input_featurizer, read_plan, write_plan
from job.model.backbones import build_base
from job.model.freezing import freeze, thaw
from job.model.resolved import ResolvedBase, record_key, weights_request
from job.run.identity import prepare_base, run_id
from job.storage import open_store
from support import texts
from support.networks import own_base

COUNTS = {"train": {"a": 40, "b": 30}, "validation": {"a": 8, "b": 7}, "test": {"a": 8, "b": 7}}
SNAPSHOT = Snapshot("0" * 20, 100, ["a", "b"], COUNTS, {}, {})
BASE = ResolvedBase("1" * 64)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


def job_of(*settings: str, backbone: str = "mobilenetv2") -> Job:
    text = f"""
name: plan
data: {{source: file:///tmp/source/}}
store: file:///tmp/store/
model: {{backbone: {backbone}, weights: none, image_size: 96}}
phases: {{fine_tune: {{unfreeze: {{blocks: 2}}, epochs: 10}}}}
"""
    return parse_job(text, settings)


@cache
def built(model: str) -> keras.Model:
    return build_base(Model.model_validate_json(model))


def network_of(job: Job) -> keras.Model:
    base = built(job.model.model_dump_json(by_alias=True))
    freeze(base)
    if job.phases.fine_tune is not None:
        thaw(base, job.phases.fine_tune.unfreeze)
    return base


def plan_of(*settings: str, backbone: str = "mobilenetv2") -> Plan:
    job = job_of(*settings, backbone=backbone)
    return choose_plan(job, network_of(job), SNAPSHOT)


def test_a_frozen_prefix_is_stored_and_the_reason_told() -> None:
    plan = plan_of()
    assert plan.cut is not None
    assert plan.dtype == "float16"
    assert plan.reason.startswith(f"stored at {plan.cut} (")
    assert "KiB an example" in plan.reason
    assert "\n" not in plan.reason


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["train.cache=off"], "train.cache: off"),
        (["augment.flip_horizontal=true"], r"augment draws anew in every epoch \(train.views: 1\).*train.views: 4"),
        (["phases.fine_tune=null"], "the head alone is trained"),
        (["phases.fine_tune.unfreeze={from: Conv1}"], "there is nothing to store"),
        (["train.cache_limit=10kB"], "is more than fits: fine-tuning computes"),
    ],
)
def test_the_images_are_what_fine_tuning_starts_from(settings: list[str], reason: str) -> None:
    plan = plan_of(*settings)
    assert plan.cut is None
    assert re.search(reason, plan.reason), plan.reason


def test_views_multiply_what_has_to_fit() -> None:
    augmented = ("augment.flip_horizontal=true", "train.views=4")
    one = plan_of()
    size = 2 * one.shape[0] * one.shape[1] * one.shape[2] + 4 * one.features
    limit = f"train.cache_limit={size * 150}"
    assert plan_of(limit).cut is not None
    assert plan_of(limit, *augmented).cut is None
    assert plan_of(f"train.cache_limit={size * (100 + 3 * 70)}", *augmented).cut == one.cut


def test_insisting_stores_what_does_not_fit_but_not_what_can_not_be_cut() -> None:
    plan = plan_of("train.cache=on", "train.cache_limit=10kB")
    assert plan.cut is not None
    assert "more than fits" in plan.reason
    with pytest.raises(JobError, match=r"train\.cache: on: .*no single tensor that holds any work"):
        plan_of("train.cache=on", "phases.fine_tune.unfreeze={from: Conv1}")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    store.write("x", b"")
    assert read_plan(store, "run") is None
    plan = plan_of()
    write_plan(store, "run", plan)
    assert read_plan(store, "run") == plan
    store.write("runs/run/plan.json", b"{")
    with pytest.raises(StorageError, match=r"runs/run/plan\.json is not what it should be \(Invalid JSON"):
        read_plan(store, "run")


def ids(job: Job, plan: Plan, base: ResolvedBase = BASE) -> tuple[list[str], list[str]]:
    pooled, inputs = featurizers(job, base, plan)
    return [f.id for f in pooled], [f.id for f in inputs]


PLAN = Plan(features=1280, cut="block_14_add", shape=(3, 3, 160), dtype="float16")


@pytest.mark.parametrize(
    "setting",
    [
        "model.head.hidden=[8]",
        "phases.head.learning_rate=0.5",
        "phases.fine_tune.epochs=3",
        "train.seed=7",
        "train.batch_size=8",
        "train.class_weights=auto",
        "scaling.workers=1",
        "name=other",
        "store=file:///tmp/elsewhere/",
    ],
)
def test_what_does_not_touch_the_frozen_network_keeps_the_features(setting: str) -> None:
    assert ids(job_of(setting), PLAN) == ids(job_of(), PLAN)


def test_what_determines_the_features_is_in_their_names() -> None:
    plain = ids(job_of(), PLAN)
    others = [
        ids(job_of("model.image_size=128"), PLAN),
        ids(job_of("model.resize=crop"), PLAN),
        ids(job_of("model.preprocessing=unit"), PLAN),
        ids(job_of("train.precision=mixed_bfloat16"), PLAN),
        ids(job_of(), PLAN, ResolvedBase("2" * 64)),
    ]
    for pooled, inputs in others:
        assert pooled != plain[0]
        assert inputs != plain[1]
    assert len({str(other) for other in others}) == len(others)
    other_cut = ids(job_of(), Plan(1280, "block_13_project_bn", (3, 3, 160), "float16"))
    assert other_cut[0] == plain[0]
    assert other_cut[1] != plain[1]


def test_where_a_base_ends_is_in_the_names_of_its_features_and_of_its_stored_weights() -> None:
    ended, plan = job_of("model.end_at=block_12_add"), Plan(4, "block_3_add", (1,))
    here, there = ({*pooled, *cut} for pooled, cut in (ids(ended, plan), ids(job_of(), plan)))
    assert not here & there
    requests = [weights_request(job.model, 0) for job in (job_of(), ended)]
    assert "end_at" not in requests[0]
    assert record_key(requests[0]) != record_key(requests[1])


def test_what_the_planning_machine_takes_is_in_the_plan_and_may_be_missing(tmp_path: Path) -> None:
    plan = plan_of()
    assert plan.seconds_whole is not None
    assert plan.seconds_below is not None
    assert 0 < plan.seconds_below < plan.seconds_whole
    store = open_store(f"file://{tmp_path}/store/")
    store.write("runs/run/plan.json", b'{"features": 8, "cut": null, "shape": [], "dtype": "float32", "reason": "old"}')
    assert read_plan(store, "run") == Plan(8, reason="old")


def test_only_other_views_depend_on_the_augmentation() -> None:
    flips, turns = (job_of(s, "train.views=2") for s in ("augment.flip_horizontal=true", "augment.rotate=5"))
    (flip_pooled, flip_inputs), (turn_pooled, turn_inputs) = ids(flips, PLAN), ids(turns, PLAN)
    assert (
        (flip_pooled[0], flip_inputs[0]) == (turn_pooled[0], turn_inputs[0]) == tuple(i[0] for i in ids(job_of(), PLAN))
    )
    assert flip_pooled[1] != turn_pooled[1]
    assert flip_inputs[1] != turn_inputs[1]


def test_features_depend_on_which_images_are_read_from_packed_files() -> None:
    plan = plan_of()
    settings = ["data.layout=parquet", "data.packed.image=photo"]
    ids = [
        {featurizer.id for found in featurizers(job_of(*settings, *more), BASE, plan) for featurizer in found}
        for more in ([], ["data.packed.image=infrared"])
    ]
    assert not ids[0] & ids[1]


def own_encoder(folder: Path) -> Job:
    texts.own_encoder(folder / "own.keras", 16, 64)
    source = f"{{source: 'file://{folder}/source/'}}"
    model = f"{{backbone: 'file://{folder}/own.keras', max_tokens: 16}}"
    return parse_job(f"{{name: own, task: text, data: {source}, store: 'file://{folder}/store/', model: {model}}}")


def test_ids_are_never_stored_as_activations(tmp_path: Path) -> None:
    job = own_encoder(tmp_path).model_copy(update={"train": Train(cache="on")})
    base = build_base(job.model, str(tmp_path / "own.keras"))
    freeze(base)
    thaw(base, UnfreezeBlocks(blocks=1))
    assert choose_plan(job, base, SNAPSHOT).cut == "mean"
    thaw(base, UnfreezeMatch(match=["table"]))
    with pytest.raises(JobError, match="no single tensor that holds any work"):
        choose_plan(job, base, SNAPSHOT)


@pytest.mark.parametrize(("task", "other"), [("text", "image"), ("image", "text")])
def test_a_network_that_takes_what_the_other_task_gives(task: str, other: str, tmp_path: Path) -> None:
    job = own_encoder(tmp_path)
    if task == "image":
        own_base(tmp_path / "own.keras")
    model = job.model.model_copy(update={"max_tokens": 16, "image_size": 32})
    wrong = job.model_copy(update={"task": other, "model": model})
    store = open_store(job.store)
    store.write("x", b"")
    with pytest.raises(JobError, match=f"does not take what `task: {other}` gives it"):
        prepare_base(wrong, store, lambda event: None)


def test_what_is_decoded_depends_on_the_decoding_alone(tmp_path: Path) -> None:
    job = own_encoder(tmp_path)
    other = job.model_copy(update={"model": job.model.model_copy(update={"backbone": "glove"})})
    assert input_featurizer(job) == input_featurizer(other)
    assert input_featurizer(job).is_input
    longer = job.model_copy(update={"model": job.model.model_copy(update={"max_tokens": 17})})
    assert input_featurizer(job).id != input_featurizer(longer).id


def test_names_of_what_jobs_of_pictures_have_stored_stay_what_they_are() -> None:
    """Else all of it would be computed again, and finished runs would not be found: that is meant only where the same
    files become other pixels (DECODING).
    """
    job = parse_job("{name: golden, data: {source: 'file:///tmp/source/'}, store: 'file:///tmp/store/'}")
    assert run_id(job, SNAPSHOT, BASE) == "golden-b9f0c9214d31"
    pooled, inputs = featurizers(job, BASE, Plan(512))
    assert [featurizer.id for featurizer in (*pooled, *inputs)] == ["f8df241e36d3076d55d2", "423db8e48285bfc40b89"]
