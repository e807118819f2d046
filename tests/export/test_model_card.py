"""The model card: what it says, and that hostile names say nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from job.evaluation.run_documents import read_documents
from job.export.model_card import md, model_card
from support.finished import Made

SETTINGS = """
card:
  licence: cc-by-nc-sa-4.0
  intended_use: "Sorting cells.\\n\\nNot <b>people</b>."
  limits: Made from one camera.
  authors: [A. Person, B_Person]
"""


def card_of(made: Made) -> str:
    store, run = made.finish()
    return model_card(read_documents(store, run), "1.2.3")


def test_it_has_what_hubs_and_people_look_for(tmp_path: Path) -> None:
    card = card_of(Made(tmp_path, settings=SETTINGS))
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "cc-by-nc-sa-4.0",
        "library_name": "keras",
        "tags": ["thaw", "transfer-learning", "image"],
        "pipeline_tag": "image-classification",
    }
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert titles == [
        "tiny",
        "Intended use",
        "Data",
        "Measured on the test split",
        "By class",
        "Limits",
        "How it was made",
    ]
    assert "Sorting cells.\n\nNot &lt;b&gt;people&lt;/b&gt;." in text
    assert "Authors: A. Person, B\\_Person" in text
    assert "Made from one camera." in text
    assert "| accuracy | 82.5 % (68.1 to 91.3 %) | 95.0 % (83.5 to 98.6 %) |" in text
    assert "Thaw 1.2.3" in text


def test_names_are_no_mark_up(tmp_path: Path) -> None:
    card = card_of(Made(tmp_path))
    assert "<script" not in card
    row = next(line for line in card.splitlines() if line.startswith("| a \\|"))
    assert len(re.split(r"(?<!\\)\|", row)) == 6, "four cells: the bar in the name is none of the table's"
    assert md("a\n# b | <i>*c*") == "a \\# b \\| &lt;i&gt;\\*c\\*"


def test_it_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    first = model_card(read_documents(store, run), "1")
    store.delete(f"runs/{run}/promotion.json")
    store.delete(f"runs/{run}/timings.json")
    assert model_card(read_documents(store, run), "1") == first


def test_what_the_job_file_does_not_say_is_said_to_be_missing(tmp_path: Path) -> None:
    card = card_of(Made(tmp_path, fine_tuned=False, settings="phases: {fine_tune: null}"))
    assert card.count("Not stated: `card` in the job file says it.") == 3
    assert "Fine-tuning changed" not in card


@pytest.mark.parametrize("groups", [3, 51])
def test_by_group_where_there_are_few(groups: int, tmp_path: Path) -> None:
    made = Made(tmp_path, tested=60)
    store, run = made.finish()
    labels = tmp_path / "source/labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["module"] = f"module {number % groups}"
    labels.write_text("\n".join(map(json.dumps, rows)))
    key = f"runs/{run}/job.json"
    job = json.loads(store.read(key))
    job["data"]["table"] |= {"group": "module", "split": None}
    store.write(key, json.dumps(job).encode())
    card = model_card(read_documents(store, run), None)
    if groups == 3:
        assert "### By module" in card
        assert len(re.findall(r"^\| module \d \| 2\d \|", card, re.MULTILINE)) == 3
    else:
        assert "more than 50 groups (module)" in card
    labels.unlink()
    assert "could not be read" in model_card(read_documents(store, run), None)
