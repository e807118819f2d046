"""Documents of a run: their shape in the store, and what becomes of those that are not what was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job.errors import BrokenDocument, ObjectMissing
from job.registry.champion import load_model
from job.run.outcome import Decision, EpochRecord, PromotionDecision, RunOutcome, RunResult
from job.storage import Store
from job.storage.documents import decoded, encoded, plain, read_document, write_document
from support.finished import RUN, Made
from support.results import run_result

RESULT = run_result("s3://bucket/thaw/runs/cells-1/")


def test_what_does_not_apply_is_left_out_and_what_is_not_known_is_null() -> None:
    assert plain(EpochRecord(0, 0.5, 0.75)) == {"epoch": 0, "validation_loss": 0.5, "validation_accuracy": 0.75}
    assert set(plain(RESULT)) == {"run", "snapshot", "state", "metrics", "classes", "model", "kept"}
    assert plain(RESULT)["metrics"]["fine_tune"] is None
    assert plain(Decision(True, ""))["p_value"] is None
    first = PromotionDecision(True, "it is the first model of this job", "cells-1", None)
    assert plain(first) == {"promoted": True, "reason": first.reason, "run": "cells-1", "against": None}


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        (RunOutcome(RESULT), {"report": None}),
        (
            RunOutcome(RESULT, report="s3://page", formats={"onnx": None}),
            {"report": "s3://page", "formats": {"onnx": None}},
        ),
        (RunOutcome(RESULT, mlflow=""), {"report": None, "mlflow": None}),
        (RunOutcome(run_result("s3://x/", model=None), decision=Decision(False, "few")), {"decision": "few"}),
    ],
)
def test_what_followed_the_run_is_printed_where_there_was_any(outcome: RunOutcome, more: dict[str, object]) -> None:
    printed = outcome.as_json()
    if "decision" in printed:
        printed["decision"] = printed["decision"]["reason"]
    assert printed == {**plain(outcome.result), "promotion": None, **more}
    assert decoded(json.dumps(printed).encode(), RunResult, "it") == outcome.result


def test_a_document_is_read_as_it_was_written(store: Store) -> None:
    write_document(store, "a.json", RESULT)
    assert read_document(store, "a.json", RunResult) == RESULT
    assert read_document(store, "b.json", RunResult) is None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b"{}", "run: Field required"),
        (
            encoded(RESULT).replace(b'"accuracy": 0.9', b'"accuracy": "high"'),
            r"metrics\.head\.accuracy: Input should be a",
        ),
    ],
)
def test_a_document_that_is_not_what_it_says_is_named_with_its_field(content: bytes, what: str, store: Store) -> None:
    store.write("runs/a/result.json", content)
    with pytest.raises(BrokenDocument, match=rf"runs/a/result\.json is not what it should be \({what}.*delete it"):
        read_document(store, "runs/a/result.json", RunResult)


@pytest.mark.parametrize("name", ["result", "plan"])
def test_a_model_in_use_whose_documents_are_broken_is_as_one_that_is_gone(name: str, tmp_path: Path) -> None:
    """Else every later run of the job would end with an error about it."""
    store, _ = Made(tmp_path).finish()
    store.write(f"runs/{RUN}/{name}.json", b"{}")
    with pytest.raises(ObjectMissing, match=rf"{name}\.json is not what it should be"):
        load_model(store, RUN)
