"""Dashboard and alerts, against the metrics that there are; promtool is Prometheus's own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from job.telemetry import run_metrics as of_run
from job.training import throughput as of_worker
from support.kustomize import K8S, build_with, of_kind
from support.tools import need

RUN = 'run_id="cells-1", namespace="thaw"'
METRICS = {
    *(f"ray_{name}_total" for name in of_worker.COUNTERS),
    *(f"ray_{name}" for name in (*of_worker.GAUGES, *of_run.GAUGES)),
    *(f"ray_thaw_checkpoint_seconds_{part}" for part in ("bucket", "sum", "count")),
}


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((K8S / "components/monitoring/alerts/alerts.yaml").read_text())
    (group,) = document["spec"]["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((K8S / "components/monitoring/dashboard.json").read_text())


def promtool(folder: Path, *words: str, **files: Any) -> str:
    need("promtool")
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_they_ask_for_metrics_that_there_are(rules: list[dict[str, Any]], dashboard: dict[str, Any]) -> None:
    asked = " ".join([*expressions(dashboard), *(rule["expr"] for rule in rules)])
    assert set(re.findall(r"ray_thaw\w+", asked)) <= METRICS
    shown = set(re.findall(r"ray_thaw\w+", " ".join(expressions(dashboard))))
    assert METRICS - shown == {"ray_thaw_last_progress_time_seconds", "ray_thaw_loss_not_finite"}


def test_what_the_dashboard_asks_is_promql(dashboard: dict[str, Any], tmp_path: Path) -> None:
    asked = [text.replace("$__rate_interval", "1m") for text in expressions(dashboard)]
    recorded = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(asked)]
    told = promtool(tmp_path, "check", "rules", "rules.yaml", rules={"groups": [{"name": "x", "rules": recorded}]})
    assert f"{len(recorded)} rules found" in told


def test_panels_do_not_overlap_and_each_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"])
    assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"])


def test_grafana_finds_the_dashboard_by_its_label(dashboard: dict[str, Any], tmp_path: Path) -> None:
    maps = of_kind(build_with(tmp_path, "base", ["monitoring"]), "ConfigMap")
    (found,) = (one for one in maps if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1")
    assert json.loads(found["data"]["dashboard.json"]) == dashboard


CASES = {
    "ThawNoProgress": ({f"ray_thaw_last_progress_time_seconds{{{RUN}}}": "0+60x10 600x40"}, "24m", "26m"),
    "ThawManyRejects": (
        {f"ray_thaw_rejects{{{RUN}}}": "5x20 6x20", f"ray_thaw_listed_examples{{{RUN}}}": "95x40"},
        "20m",
        "21m",
    ),
    "ThawLossNotFinite": (
        {
            f'ray_thaw_loss_not_finite{{{RUN}, pod="first"}}': "0x20 1 stale",
            f'ray_thaw_loss_not_finite{{{RUN}, pod="retried"}}': "_x25 0x15",
        },
        "20m",
        "30m",
    ),
    "ThawWaitsForInput": (
        {
            f"ray_thaw_input_wait_seconds_total{{{RUN}}}": "0+10x30 300+40x40",
            f"ray_thaw_training_seconds_total{{{RUN}}}": "0+60x70",
        },
        "30m",
        "60m",
    ),
}
"""By alert: series as a run has them, a time at which it is silent, and one at which it fires."""


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_not_before(alert: str, rules: list[dict[str, Any]], tmp_path: Path) -> None:
    series, silent, fires = CASES[alert]
    (rule,) = (rule for rule in rules if rule["alert"] == alert)
    told = {"exp_labels": {"run_id": "cells-1", "namespace": "thaw", **rule["labels"]}}
    expected = [
        {"eval_time": silent, "alertname": alert},
        {"eval_time": fires, "alertname": alert, "exp_alerts": [told]},
    ]
    plain = {key: value for key, value in rule.items() if key != "annotations"}
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    promtool(tmp_path, "test", "rules", "tests.yaml", tests=tests, rules={"groups": [{"name": "x", "rules": [plain]}]})


def test_every_alert_has_a_case_and_says_what_to_do(rules: list[dict[str, Any]]) -> None:
    assert {rule["alert"] for rule in rules} == CASES.keys()
    assert all(rule["annotations"]["description"].strip() for rule in rules)


def test_a_run_that_has_ended_stands_still_for_nobody(rules: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its series ends with it; that of an attempt that goes on in other pods takes its place."""
    name = "ray_thaw_last_progress_time_seconds"
    series = {
        f'{name}{{{RUN}, pod="first"}}': "0+60x10 stale",
        f'{name}{{{RUN}, pod="retried"}}': "_x30 1800+60x10 stale",
    }
    (rule,) = (rule for rule in rules if rule["alert"] == "ThawNoProgress")
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": time, "alertname": rule["alert"]} for time in ("29m", "38m", "60m")],
    }
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    promtool(tmp_path, "test", "rules", "tests.yaml", tests=tests, rules={"groups": [{"name": "x", "rules": [rule]}]})
