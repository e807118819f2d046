"""The watch file, and the jobs that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from job.arrival.settings import load_watch
from job.arrival.targets import Target, known_buckets, load_targets
from job.cli import thaw
from job.config.jobfile import dump_job, parse_job
from job.deploy.submit import Options
from job.errors import JobError
from support.kube import Kube
from support.watching import job_of

SQS = "https://sqs.eu-central-1.amazonaws.com/111122223333/arrivals"
SUBSCRIPTION = "projects/our-project/subscriptions/arrivals"


def written(folder: Path, **document: Any) -> Path:
    default = {"queue": SQS, "jobs": [{"job": "job.yaml", "overlay": "overlay.yaml"}]}
    (folder / "watch.yaml").write_text(yaml.safe_dump({**default, **document}))
    return folder / "watch.yaml"


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    watch = load_watch(written(tmp_path))
    (rule,) = watch.jobs
    assert (watch.scheme, rule.quiet_for, rule.max_wait, rule.min_new, rule.concurrency) == ("s3", 60, 900, 1, "queue")
    assert load_watch(written(tmp_path, queue=SUBSCRIPTION)).scheme == "gs"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"queues": SQS}, r"queues: unknown key \(nearest: 'queue'\)"),
        (
            {"jobs": [{"job": "a", "overlay": "b", "quite_for": 1}]},
            r"jobs.0.quite_for: unknown key \(nearest: 'quiet_for'\)",
        ),
        ({"jobs": [{"overlay": "b"}]}, "jobs.0.job: this key is needed"),
        ({"jobs": []}, "jobs: "),
        ({"queue": "arrivals"}, "queue: a queue is https://sqs.REGION.amazonaws.com/ACCOUNT/NAME or projects/"),
        ({"queue": "https://sqs.eu-central-1.amazonaws.com/111122223333/a b"}, "queue: a queue is"),
        ({"visibility": 3600}, "visibility: "),
        (
            {"jobs": [{"job": "a", "overlay": "b", "quiet_for": 60, "max_wait": 5}]},
            r"jobs.0: max_wait \(5\) must not be below",
        ),
        ({"queue": SUBSCRIPTION, "account": "1"}, "watch: account: notifications of GCS do not tell"),
        ({"listen": {"port": 99999}}, "listen.port: "),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=f"watch.yaml: {told}"):
        load_watch(written(tmp_path, **document))


def test_files_are_found_beside_the_watch_file(tmp_path: Path, kube: Kube, overlay: str) -> None:
    (tmp_path / "job.yaml").write_text(dump_job(job_of("cells")))
    watch = load_watch(written(tmp_path))
    targets = load_targets(watch, tmp_path)
    assert list(targets) == ["cells"]
    assert known_buckets(targets.values()) == {"s3://cells/"}
    assert targets["cells"].api.namespace == "thaw"


def test_two_jobs_of_one_name_are_refused(tmp_path: Path, kube: Kube, overlay: str) -> None:
    (tmp_path / "job.yaml").write_text(dump_job(job_of("cells")))
    rule = {"job": "job.yaml", "overlay": "overlay.yaml"}
    with pytest.raises(JobError, match="two jobs have the name 'cells'"):
        load_targets(load_watch(written(tmp_path, jobs=[rule, rule])), tmp_path)


def test_a_queue_tells_of_one_kind_of_bucket(tmp_path: Path, kube: Kube, overlay: str) -> None:
    (tmp_path / "job.yaml").write_text(dump_job(job_of("cells")))
    with pytest.raises(JobError, match="tells of gs:// only, and its data is in s3://cells/"):
        load_targets(load_watch(written(tmp_path, queue=SUBSCRIPTION)), tmp_path)


def test_a_job_of_an_inventory_is_not_watched(tmp_path: Path, kube: Kube, overlay: str) -> None:
    job = job_of("cells")
    data = job.data.model_copy(update={"inventory": "s3://cells/inventory/"})
    (tmp_path / "job.yaml").write_text(dump_job(job.model_copy(update={"data": data})))
    with pytest.raises(JobError, match=r"cells: data\.inventory has what was there up to a day ago"):
        load_targets(load_watch(written(tmp_path)), tmp_path)


def test_wrong_settings_end_it_with_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from job.cli import main

    monkeypatch.setattr(sys, "argv", ["thaw", "watch", str(tmp_path / "none.yaml")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert CliRunner().invoke(thaw, ["watch", "--help"]).exit_code == 0


def target(text: str) -> Target:
    return Target(parse_job(text), Options("local"), {}, None)  # type: ignore[arg-type]


def test_what_concerns_a_job_is_below_its_source_and_not_in_its_store() -> None:
    job = target("{name: a, data: {source: 's3://bb/in'}, store: 's3://bb/in/thaw'}")
    assert job.concerns("s3://bb/in/x/1.png")
    assert job.concerns("s3://bb/in/thawed/1.png")
    assert not job.concerns("s3://bb/in/thaw/runs/1")
    assert not job.concerns("s3://bb/inner/1.png")
    assert not job.concerns("s3://other/in/1.png")


def test_what_is_left_out_of_the_listing_does_not_concern_a_job() -> None:
    job = target("{name: a, data: {source: 's3://bb/in', exclude: ['old/*']}, store: 's3://bb/thaw'}")
    assert job.concerns("s3://bb/in/x/1.JPG")
    for key in ("x/Thumbs.db", "x/1.txt", "old/1.jpg", "x/.1.jpg", "_SUCCESS"):
        assert not job.concerns(f"s3://bb/in/{key}"), key
    table = target("{name: a, data: {source: 's3://bb/in', layout: table, include: ['*.raw']}, store: 's3://bb/thaw'}")
    assert [table.concerns(f"s3://bb/in/{key}") for key in ("1.raw", "labels.csv", "2.csv")] == [True, True, False]
    packed = target("{name: a, data: {source: 's3://bb/in', layout: webdataset}, store: 's3://bb/thaw'}")
    assert [packed.concerns(f"s3://bb/in/{key}") for key in ("1.tar", "part-0001", "_SUCCESS")] == [True, True, False]


def test_a_table_of_labels_elsewhere_concerns_it_too() -> None:
    data = "{source: 's3://bb/in/', layout: table, table: {file: 's3://cc/labels/all.csv'}}"
    job = target(f"{{name: a, data: {data}, store: 's3://bb/thaw/'}}")
    assert job.buckets == {"s3://bb/", "s3://cc/"}
    assert job.concerns("s3://cc/labels/all.csv")
    assert not job.concerns("s3://cc/labels/other.csv")
