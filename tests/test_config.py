from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job.config import Scaling, UnfreezeAuto, Weights, WorkerRange, job_schema
from job.config.jobfile import dump_job, load_job, parse_job
from job.config.spelled import load_yaml, settled
from job.errors import JobError

JOB = """
name: cells
data: {source: s3://bucket/cells/}
store: s3://bucket/thaw/
"""


def test_a_short_job_file_has_every_default() -> None:
    job = parse_job(JOB)
    assert job.model.weights_source == "package"
    assert job.phases.fine_tune.unfreeze.blocks == 2
    assert job.train.batch_size == 64


def test_numbers_without_a_point_are_numbers() -> None:
    assert parse_job(JOB, ["phases.head.learning_rate=1e-4"]).phases.head.learning_rate == 1e-4


def test_overrides_reach_nested_keys_and_are_checked() -> None:
    job = parse_job(JOB, ["model.backbone=vgg19", "model.weights=none", "phases.fine_tune={unfreeze: {from: x}}"])
    assert job.phases.fine_tune.unfreeze.from_ == "x"
    assert parse_job(JOB, ["phases.fine_tune=null"]).phases.fine_tune is None


NAMES = "{0: 1, 1_000: 2, 0x10: 3, 1e3: 4, 1.50: 5, yes: 6, Off: 7, null: 8, ~: 9, 2020-01-01: 10, cat: 11}"
SPELLED = ["0", "1_000", "0x10", "1e3", "1.50", "yes", "Off", "null", "~", "2020-01-01", "cat"]
TABLE = "data={source: s3://bucket/cells/, layout: table, table: {key: 0, label: yes, group: 1.50}}"


def test_a_class_is_called_as_it_is_spelled() -> None:
    given = parse_job(f"{JOB}train: {{class_weights: {NAMES}, deterministic: yes, batch_size: 0x10}}\n")
    assert given.train.class_weights == {name: weight for weight, name in enumerate(SPELLED, 1)}
    assert (given.train.deterministic, given.train.batch_size) == (True, 16)
    assert parse_job(JOB, [f"train.class_weights={NAMES}"]).train.class_weights == given.train.class_weights
    assert parse_job(dump_job(given)) == given
    added = parse_job(JOB, ["train.class_weights={no: 1}", "train.class_weights.0=5", "train.class_weights.1-2=3"])
    assert added.train.class_weights == {"no": 1, "0": 5, "1-2": 3}


def test_a_column_is_called_as_it_is_spelled() -> None:
    table = parse_job(JOB, [TABLE]).data.label_table
    assert (table.key, table.label, table.group) == ("0", "yes", "1.50")
    assert parse_job(JOB, [TABLE, "data.table.group=null"]).data.label_table.group is None
    assert parse_job(JOB, ["name=007", "card.authors=[1, no]"]).card.authors == ["1", "no"]


def test_anchors_and_merges_stay_what_they_are() -> None:
    weights = "defaults: &some {0: 2, 1: 3}\nmore: {<<: *some, 1: 4}\n"
    assert settled(load_yaml(weights), Any) == {"defaults": {"0": 2, "1": 3}, "more": {"0": 2, "1": 4}}


def test_unfreezing_may_be_left_to_the_data() -> None:
    job = parse_job(JOB, ["phases.fine_tune.unfreeze=auto"])
    assert job.phases.fine_tune.unfreeze == UnfreezeAuto()
    assert parse_job(dump_job(job)) == job
    job = parse_job(JOB, ["phases.fine_tune.unfreeze={auto: {max_blocks: 7}}"])
    assert job.phases.fine_tune.unfreeze.auto.max_blocks == 7
    assert type(job).model_validate(job.model_dump(mode="json", by_alias=True)) == job


def test_weights_by_uri_may_be_a_string() -> None:
    assert parse_job(JOB, ["model.weights=gs://bucket/w.h5"]).model.weights == Weights(uri="gs://bucket/w.h5")


def test_workers_are_a_number_or_a_range() -> None:
    scaling = parse_job(JOB, ["scaling.workers=2"]).scaling
    assert (scaling.min_workers, scaling.max_workers, scaling.elastic) == (2, 2, False)
    job = parse_job(JOB, ["scaling.workers={min: 1, max: 8}"])
    assert job.scaling == Scaling(workers=WorkerRange(min=1, max=8))
    assert (job.scaling.min_workers, job.scaling.max_workers, job.scaling.elastic) == (1, 8, True)
    assert type(job).model_validate(job.model_dump(mode="json", by_alias=True)) == job
    assert not parse_job(JOB, ["scaling.workers={min: 3, max: 3}"]).scaling.elastic


def test_where_and_with_how_many_workers_a_run_trains_is_left_open_by_default() -> None:
    """Whoever asks for their number has to have resolved it: a silent guess would be taken for what the user said."""
    job = parse_job(JOB)
    assert (job.scaling.executor, job.scaling.workers) == ("auto", "auto")
    assert parse_job(JOB, ["scaling={executor: auto, workers: auto}"]).meaning() == job.meaning()
    assert parse_job(dump_job(parse_job(JOB, ["scaling.workers=auto"]))).scaling.workers == "auto"
    for name in ("min_workers", "max_workers", "elastic"):
        with pytest.raises(AssertionError, match="auto was not resolved"):
            getattr(job.scaling, name)


@pytest.mark.parametrize("workers", ["auto", "1", "{min: 1, max: 1}"])
def test_the_embedded_executor_is_a_single_worker(workers: str) -> None:
    assert parse_job(JOB, ["scaling.executor=local", f"scaling.workers={workers}"]).scaling.executor == "local"


def test_checkpoints_by_steps_or_time_may_be_switched_off() -> None:
    job = parse_job(JOB, ["checkpoint={every_steps: 100, every_minutes: null}"])
    assert (job.checkpoint.every_steps, job.checkpoint.every_minutes, job.checkpoint.keep) == (100, None, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.seed=1", "job file: trian: unknown key (nearest: 'train')."),
        ("model.bakbone=x", "job file: model.bakbone: unknown key (nearest: 'backbone')."),
        ("phases.fine_tune={unfreez: 1}", "job file: phases.fine_tune.unfreez: unknown key (nearest: 'unfreeze')."),
        ("data.split={train: 0.9}", "job file: data.split: train + validation + test must be 1, got 1.2."),
        ("store=bucket/x", "job file: store: a URI must begin with s3://, gs:// or file://, got 'bucket/x'."),
        (
            "model.weights=imagnet",
            "job file: model.weights: weights are `imagenet`, `package`, `none`, a URI or a path (/…, ./…), not "
            "'imagnet'.",
        ),
        (
            "phases.fine_tune={unfreeze: {blocks: 2, from: x}}",
            "job file: phases.fine_tune.unfreeze: exactly one of `blocks`, `from`, `match`, `words`, `auto` is needed, got blocks, from.",  # noqa: E501
        ),
        (
            "phases.fine_tune.warm_epochs=2",
            "job file: phases: fine_tune.warm_epochs needs `head: {warm_start: true}`: both start from the same model.",
        ),
        (
            "phases={head: {warm_start: true}, fine_tune: {unfreeze: auto, warm_epochs: 2}}",
            "job file: phases.fine_tune: warm_epochs goes on with blocks that `unfreeze: auto` chooses: leave out one.",
        ),
        (
            "phases.head={epochs: 3, warmup_epochs: 3}",
            "job file: phases.head: warmup_epochs (3) must be less than epochs (3).",
        ),
        (
            "phases.head={schedule: one_cycle, warmup_epochs: 1}",
            "job file: phases.head: `schedule: one_cycle` has a rise of its own: leave out warmup_epochs.",
        ),
        ("train.batch_size=0", "job file: train.batch_size: input should be greater than 0, got 0."),
        (
            "scaling.workers=0",
            "job file: scaling.workers: auto, a number from 1 to 4096, or {min: 1, max: 8} is needed, got 0.",
        ),
        (
            "scaling.workers=[1, 8]",
            "job file: scaling.workers: auto, a number from 1 to 4096, or {min: 1, max: 8} is needed.",
        ),
        (
            "scaling.workers=many",
            "job file: scaling.workers: auto, a number from 1 to 4096, or {min: 1, max: 8} is needed, got 'many'.",
        ),
        (
            "scaling={executor: local, workers: 2}",
            "job file: scaling: executor: local is a single worker, and workers asks for 2: remove one of the two, or "
            "write executor: ray.",
        ),
        (
            "scaling={executor: local, workers: {min: 1, max: 8}}",
            "job file: scaling: executor: local is a single worker, and workers asks for 8: remove one of the two, or "
            "write executor: ray.",
        ),
        (
            "scaling.executor=kubernetes",
            "job file: scaling.executor: input should be 'auto', 'local' or 'ray', got 'kubernetes'.",
        ),
        ("scaling.workers={min: 8, max: 1}", "job file: scaling.workers: min must not be above max, got 8 and 1."),
        (
            "scaling.workers={min: 1, max: 5000}",
            "job file: scaling.workers.max: input should be less than or equal to 4096, got 5000.",
        ),
        ("scaling.workers={min: 1}", "job file: scaling.workers.max: this key is needed and was not given."),
        (
            "scaling.workers={min: 1, max: 2, maxx: 3}",
            "job file: scaling.workers.maxx: unknown key (nearest: 'max').",
        ),
        ("checkpoint.every_steps=0", "job file: checkpoint.every_steps: input should be greater than 0, got 0."),
        ("checkpoint.every_minutes=0", "job file: checkpoint.every_minutes: input should be greater than 0, got 0."),
        (
            "checkpoint.every_minutes=.inf",
            "job file: checkpoint.every_minutes: input should be a finite number, got inf.",
        ),
        (
            "phases.head.weight_decay=.inf",
            "job file: phases.head.weight_decay: input should be a finite number, got inf.",
        ),
        (
            "train=null",
            "job file: train: settings are wanted here ({a: b}, or lines that are indented); it is empty.",
        ),
        ("data.split.val=0.1", "job file: data.split.val: unknown key (known: train, validation, test)."),
        (
            "data={source: s3://bucket/, layout: table, table: {file: /x/labels.csv}}",
            "job file: data.table.file: a name below data.source, or a URI (s3://…, gs://…, file:///…), got "
            "'/x/labels.csv'.",
        ),
        ("checkpoint.keep=0", "job file: checkpoint.keep: input should be greater than or equal to 1, got 0."),
        ("checkpoint.keep=101", "job file: checkpoint.keep: input should be less than or equal to 100, got 101."),
        (
            "recovery.max_failures=-1",
            "job file: recovery.max_failures: input should be greater than or equal to 0, got -1.",
        ),
        (
            "recovery.max_preemption_failures=-1",
            "job file: recovery.max_preemption_failures: input should be greater than or equal to 0, got -1.",
        ),
        ("recovery.stall_timeout=0", "job file: recovery.stall_timeout: input should be greater than 0, got 0."),
        ("recovery.stal_timeout=9", "job file: recovery.stal_timeout: unknown key (nearest: 'stall_timeout')."),
        ("train.batch_size", "--set train.batch_size: write it as a.b=value, for example train.seed=1."),
    ],
)
def test_a_wrong_setting_is_answered_with_what_it_got(override: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(JOB, [override])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: {seed: 1}\ntrain: {views: 2}", "the key 'train' is there twice .first in line 1.: keep one .*line 2"),
        ('train: {class_weights: {0: 1, "0": 2}}', "the key '0' is there twice"),
        ("data:\n\tsource: x", "indented with blanks, not with tabs"),
        ("data: {include: *.jpg}", r"begins with `\*` is put in quotes"),
        ("data: {exclude: !cat}", "begins with `!` is put in quotes"),
    ],
)
def test_what_yaml_would_take_otherwise_is_refused(text: str, told: str) -> None:
    with pytest.raises(JobError, match=rf"job file: not valid YAML: .*{told}"):
        parse_job(text)


@pytest.mark.parametrize(
    "uri", ["s3://${BUCKET}/x/", "file:///~/x", "file://$HOME/x", "gs://{{ bucket }}/x", "s3://b/$DAY/"]
)
def test_a_variable_in_a_uri_is_refused(uri: str) -> None:
    for key in ("store", "data.source"):
        with pytest.raises(JobError, match=rf"{key}: variables and `~` are not replaced in a job file"):
            parse_job(JOB, [f"{key}={uri!r}"])
    assert parse_job(JOB, ["store=' s3://bucket/$x/ '"]).store == "s3://bucket/$x/"


@pytest.mark.parametrize("text", ["a: [", "- a", "", "\t"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="job file: "):
        parse_job(text)


@pytest.mark.parametrize("bounds", ["[4095, 0]", "[5, 5]"])
def test_a_range_of_values_ends_above_its_beginning(bounds: str) -> None:
    with pytest.raises(JobError, match=r"data\.value_range: .*low must be below high"):
        parse_job(JOB, [f"data.value_range={bounds}"])
    assert parse_job(JOB, ["data.value_range=[0, 4095]"]).data.value_range == (0, 4095)


def test_meaning_leaves_out_what_cannot_change_the_result() -> None:
    elsewhere = ["store=gs://other/thaw/", "data.source=gs://other/cells/"]
    same = parse_job(
        JOB, ["scaling={executor: ray, workers: 7}", "checkpoint.every_steps=5", "recovery.max_failures=0", *elsewhere]
    )
    assert parse_job(JOB).meaning() == same.meaning()
    assert parse_job(JOB).meaning() != parse_job(JOB, ["train.seed=1"]).meaning()


def test_what_the_card_says_and_what_workers_cost_change_no_run() -> None:
    told = [
        "card.licence=apache-2.0",
        "card.intended_use=cells",
        "card.authors=[A. Person]",
        "scaling.worker_price=2.5",
    ]
    job = parse_job(JOB, told)
    assert (job.card.licence, job.card.authors, job.scaling.worker_price) == ("apache-2.0", ["A. Person"], 2.5)
    assert job.meaning() == parse_job(JOB).meaning()
    with pytest.raises(JobError, match=r"card\.license: unknown key \(nearest: 'licence'\)"):
        parse_job(JOB, ["card.license=apache-2.0"])


def test_where_a_base_ends_is_in_the_meaning_where_the_job_says_it() -> None:
    assert "end_at" not in parse_job(JOB).meaning()["model"]
    assert parse_job(JOB, ["model.end_at=pool"]).meaning()["model"]["end_at"] == "pool"


def test_meaning_has_what_changes_the_images_though_not_the_listing() -> None:
    packed = ["data.layout=parquet", "data.packed.image=photo"]
    for setting in ("data.packed.image=infrared", "data.max_pixels=1000", "data.value_range=[0, 4095]"):
        assert parse_job(JOB, packed).meaning() != parse_job(JOB, [*packed, setting]).meaning()
    assert (
        parse_job(JOB, ["data.layout=parquet"]).meaning()
        == parse_job(JOB, [packed[0], "data.packed.image=image"]).meaning()
    )


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_the_files_of_a_folder_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    later = "{data: {source: 's3://bucket/other/'}, phases: {head: {epochs: 7}}, scaling: {workers: {min: 1, max: 2}}}"
    write(tmp_path, job=JOB + "phases: {head: {epochs: 9, patience: 3}}\nscaling: {workers: 4}", uris=later)
    (tmp_path / "z.yml").write_text("phases: {head: {patience: 2}}")
    (tmp_path / "notes.txt").write_text("not: [a job")
    job = load_job(tmp_path, ["train.seed=5"])
    assert job.data.source == "s3://bucket/other/"
    assert (job.phases.head.epochs, job.phases.head.patience) == (7, 2)
    assert (job.scaling.max_workers, job.train.seed) == (2, 5)


def test_a_mounted_configmap_is_such_a_folder(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    write(tmp_path / "..2026", job=JOB)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "job.yaml").symlink_to("..data/job.yaml")
    (tmp_path / ".hidden.yaml").write_text("name: hidden")
    assert load_job(tmp_path).name == "cells"


def test_errors_of_a_folder_name_it_or_its_file(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=rf"{tmp_path}: there is no job file \(\*.yaml\) in this folder"):
        load_job(tmp_path)
    write(tmp_path, job=JOB, uris="stor: s3://bucket/thaw/")
    with pytest.raises(JobError, match=rf"{tmp_path}: stor: unknown key \(nearest: 'store'\)"):
        load_job(tmp_path)
    write(tmp_path, uris="a: [")
    with pytest.raises(JobError, match=rf"{tmp_path}/uris.yaml: not valid YAML"):
        load_job(tmp_path)
    write(tmp_path, uris="- a")
    with pytest.raises(JobError, match=rf"{tmp_path}/uris.yaml: a job file is a mapping .*, got list"):
        load_job(tmp_path)


def test_a_job_comes_back_from_what_is_written_of_it() -> None:
    overrides = [
        "scaling.workers={min: 1, max: 8}",
        "model.weights=gs://bucket/w.h5",
        "phases.fine_tune={unfreeze: {from: x}}",
    ]
    job = parse_job(JOB, overrides)
    assert parse_job(dump_job(job)) == job
    assert "seed" not in dump_job(job)


def test_the_schema_describes_every_section() -> None:
    schema = json.loads(json.dumps(job_schema()))
    sections = {"name", "data", "store", "model", "phases", "train", "scaling", "checkpoint", "recovery"}
    assert set(schema["properties"]) >= sections
    assert "global batch size" in schema["$defs"]["Train"]["properties"]["batch_size"]["description"]


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[1].glob("examples/*.yaml")), ids=lambda file: file.name)
def test_the_examples_are_valid(file: Path) -> None:
    load_job(file)


TEXTS = """
name: notes
task: text
data: {source: s3://bucket/notes/}
store: s3://bucket/thaw/
model: {backbone: glove, weights: s3://bucket/glove.6B.100d.txt}
"""


def test_a_job_of_texts_thaws_its_one_block_by_default() -> None:
    job = parse_job(TEXTS)
    assert job.phases.fine_tune.unfreeze.blocks == 1
    assert parse_job(TEXTS, ["phases.fine_tune.epochs=3"]).phases.fine_tune.unfreeze.blocks == 1
    assert parse_job(TEXTS, ["phases.fine_tune={unfreeze: {words: 50}}"]).phases.fine_tune.unfreeze.words == 50
    assert parse_job(TEXTS, ["phases.fine_tune=null"]).phases.fine_tune is None
    assert type(job).model_validate(job.model_dump(mode="json", by_alias=True)) == job
    assert parse_job(dump_job(job)) == job


def test_vectors_may_be_named_by_a_path(tmp_path: Path) -> None:
    assert parse_job(TEXTS, [f"model.weights={tmp_path}/v.txt"]).model.weights.uri == f"file://{tmp_path}/v.txt"
    here = parse_job(TEXTS, ["model.weights=./v.txt"]).model.weights.uri
    assert here == f"file://{Path.cwd()}/v.txt"


NOT_OF_TEXTS = [
    ("task=image", "model.backbone: glove is for `task: text`"),
    ("model.weights=null", "weights: glove takes the URI or the path of a file of word vectors"),
    ("model.weights=none", "weights: glove takes the URI or the path of a file of word vectors"),
    ("model.weights=v.txt", "weights are `imagenet`, `package`, `none`, a URI or a path (/…, ./…), not 'v.txt'"),
    ("model.image_size=300", "model.image_size means nothing for `task: text`"),
    ("model.backbone=vgg19", "texts take glove or the URI of a .keras file, not 'vgg19'"),
    ("model.max_tokens=0", "greater than or equal to 1"),
    ("data.layout=tfrecord", "data.layout: texts are read from folders or a table, not from tfrecord"),
    ("augment.flip_horizontal=true", "augment changes pictures"),
    ("phases.fine_tune={unfreeze: {words: 0}}", "greater than 0"),
    ("phases.fine_tune={unfreeze: {rows: 1}}", "exactly one of `blocks`, `from`, `match`, `words`, `auto` is needed"),
    ("data.encoding=cp1253x", "data.encoding: no encoding of text is known as 'cp1253x'"),
    ("data.encoding=base64", "data.encoding: no encoding of text is known as 'base64'"),
    ("phases.fine_tune.mixup=0.2", "phases.fine_tune.mixup: words can't be mixed"),
]
NOT_OF_PICTURES = [
    ("model.max_tokens=5", "model.max_tokens means nothing for `task: image`"),
    ("phases.fine_tune={unfreeze: {words: 5}}", "unfreeze.words is for `model.backbone: glove`"),
    ("data.encoding=latin-1", "data.encoding is for label files and for texts"),
    ("data.table={text: body}", "`table` is only for `layout: table`"),
    ("data={source: s3://b-k/x/, layout: table, table: {text: body}}", "data.table.text is for `task: text`"),
    ("data={source: s3://b-k/x/, layout: table, table: {group: g, split: s}}", "leave out `group`"),
]


@pytest.mark.parametrize(
    ("job", "override", "message"), [(TEXTS, *one) for one in NOT_OF_TEXTS] + [(JOB, *one) for one in NOT_OF_PICTURES]
)
def test_what_a_job_can_not_have(job: str, override: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(job, [override])
    assert message in str(caught.value)


def test_the_meaning_of_a_job_of_pictures_is_what_it_was_before_there_were_texts() -> None:
    """Its keys are part of every run's name."""
    meaning = parse_job(JOB).meaning()
    assert sorted(meaning["model"]) == ["backbone", "head", "image_size", "preprocessing", "resize", "weights"]
    assert meaning["data"] == {"max_pixels": 50_000_000, "value_range": None}
    texts = parse_job(TEXTS).meaning()
    assert sorted(texts["model"]) == ["backbone", "encoder", "head", "max_tokens", "weights"]
    assert texts["data"] == {}
    assert parse_job(TEXTS, ["data.encoding=latin-1"]).meaning()["data"] == {"encoding": "iso8859-1"}
