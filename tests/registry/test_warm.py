"""What a run starts from: the line that says so, and why it is not more."""

from __future__ import annotations

import pytest

from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot
from job.features.cache_plan import Plan
from job.model.anatomy import Anatomy
from job.model.classifier import Classifier
from job.model.resolved import ResolvedBase
from job.registry import warm
from job.registry.champion import ChampionModel
from job.run.run import Run
from job.storage import open_store
from support.events import Heard

JOB = """
name: cells
data: {source: 'file:///nowhere/'}
store: 'file:///nowhere/store/'
phases: {head: {warm_start: true}, fine_tune: {unfreeze: {blocks: 2}, warm_epochs: 3}}
"""
BASE = ResolvedBase("0" * 64)


def told(monkeypatch: pytest.MonkeyPatch, *changes: str, kept: str = "fine_tune", wanted: tuple[str, ...] = ()) -> str:
    before = parse_job(JOB, list(changes))
    monkeypatch.setattr(
        warm, "_in_use", lambda *_, **__: ChampionModel("cells-1", before, BASE, Plan(8), kept, ["a", "b"])
    )
    snapshot = Snapshot("0" * 20, 3, ["a", "b", "c"], {}, {}, {})
    found = warm._chosen(Run(parse_job(JOB, list(wanted)), "cells-2", open_store("file:///nowhere/"), snapshot, BASE))
    assert found.source is not None
    assert found.source.fine_tuned == found.reason.startswith("the head and the thawed layers")
    return found.reason


def test_head_and_thawed_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the head and the thawed layers start from those of cells-1; new classes start afresh: c"
    assert told(monkeypatch) == reason


@pytest.mark.parametrize(
    ("changes", "kept", "why"),
    [
        ((), "head", "that run kept its head alone"),
        (("phases.fine_tune.unfreeze={blocks: 1}",), "fine_tune", "that run thawed other layers"),
        (("phases.fine_tune=null",), "fine_tune", "that run thawed other layers"),
    ],
)
def test_the_head_alone_and_why(changes: tuple[str, ...], kept: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = f"the head starts from that of cells-1; fine-tuning starts from the pretrained layers, since {why}; new"
    assert told(monkeypatch, *changes, kept=kept).startswith(wanted)


def test_nothing_is_missed_where_nothing_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("phases.fine_tune.warm_epochs=null",)
    assert told(monkeypatch, wanted=asked) == "the head starts from that of cells-1; new classes start afresh: c"


@pytest.mark.parametrize(("settings", "warnings"), [([], 1), (["model.end_at=classes"], 0)])
def test_a_base_that_ends_in_a_classifier_is_a_warning_unless_the_job_says_so(
    settings: list[str], warnings: int
) -> None:
    heard = Heard()
    anatomy = Anatomy((), 1, 0, 0, 0, (), Classifier("classes", 5, "softmax", "pool"))
    warm.warn_of_end(parse_job(JOB, settings), anatomy, heard)
    assert len(heard) == warnings
    expected = "warning: model.end_at: efficientnet_lite0 ends in a classifier"
    assert all(text.startswith(expected) for text in heard.texts)
