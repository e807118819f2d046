"""What a person sees of a forecast, whatever its names are."""

from __future__ import annotations

import io
import os
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console

from job.planning.forecast_document import ForecastDocument
from job.planning.printed import print_forecast
from job.planning.printed_blocks import bar
from job.planning.printed_costs import SOURCES
from job.telemetry.printable import plain
from job.wording import duration, size, work

GOLDEN = Path(__file__).parent / "golden/plan.txt"


def tensor(tap: str, needed: int, stored: int, size: int) -> dict[str, Any]:
    counts = {"views": 1, "needed": needed, "stored": stored, "rejected": 0, "missing": needed - stored}
    return {"tap": tap, "dtype": "float32", "shape": [1], "bytes_per_example": 4, "bytes": size, **counts}


def document(classes: dict[str, int]) -> dict[str, Any]:
    span = {"low": 1.0, "likely": 2.0, "high": 3.0}
    return {
        "format": 1,
        "job": "x",
        "task": "image",
        "run": {"id": "x-1", "uri": "s3://bucket/store/runs/x-1/", "state": "new"},
        "data": {
            "source": "s3://bucket/x/",
            "snapshot": None,
            "pictures": None,
            "examples": sum(classes.values()),
            "share": 1.0,
            "left_out": {".txt": 8000, ".ogg": 800, "hidden or of the system": 4},
            "counts": {split: dict(classes) for split in ("train", "validation", "test")},
            "rejects": {
                "listing": {},
                "decoding": {"[red]broken[/red]": 2},
                "sampled": 256,
                "sample": {"not an image": 3},
                "examples": [{"key": "a/\x1b[31m\n<script>.png", "reason": "not an image"}],
                "expected": {"low": 1, "likely": 3, "high": 9},
            },
            "duplicates": {
                "held_out_compared": 9,
                "train_compared": 9,
                "held_out_with_a_near_copy": 1,
                "of_another_label": 1,
                "nearest": [{"held_out": "a/\n1", "train": "[bold]2", "distance": 0.0}],
                "note": "",
            },
        },
        "network": {
            "backbone": "vgg16",
            "features": 512,
            "thawed": [],
            "work": 100,
            "work_below_cut": 50,
            "cut": "block5_conv1",
            "shape": [7, 7, 512],
            "reason": "stored",
            "parameters": 100,
            "head_parameters": 10,
            "blocks": [{"name": "block1", "layers": 2, "parameters": 100, "trainable": 50}],
        },
        "cache": {
            "tensors": [tensor("pooled", 9, 0, 5000)],
            "examples_to_compute": 9,
            "passes_to_compute": 9,
            "work": 900,
            "bytes_to_write": 5000,
        },
        "phases": [
            {
                "name": "head",
                "trainable": 10,
                "epochs": {"low": 6, "likely": 13, "high": 50},
                "assumes": "the 8th is the best",
                "forward_per_epoch": 100,
                "backward_per_epoch": 200,
                "work": 3900,
            }
        ],
        "time": {
            "stages": [{"name": "listing", "seconds": span, "source": "measured"}],
            "total": span,
            "note": "",
            "last_run": None,
            "calibration": None,
        },
        "price": {"workers": 2, "worker_hours": span, "gpu_hours": span, "worker_price": 2.5, "price": span},
        "limits": [
            {"setting": "limits.hours", "limit": "3 h", "left": 7200.0, "fits": "perhaps"},
            {"setting": "limits.deadline", "limit": "2026-12-01 12:00 UTC", "left": -5.0, "fits": "no"},
        ],
        "scale": None,
        "memory": dict.fromkeys(
            ["process", "parameters", "gradients", "optimizer", "checkpoints", "activations", "batches", "features"], 5
        )
        | {"total": 40},
        "warnings": [{"setting": "data", "text": "'a\n[blink]b': few"}],
    }


def printed(found: dict[str, Any], width: int = 80, terminal: bool = True) -> str:
    out = io.StringIO()
    forecast = TypeAdapter(ForecastDocument).validate_python(found)
    print_forecast(Console(file=out, width=width, force_terminal=terminal, no_color=True, color_system=None), forecast)
    return out.getvalue()


def solar_cells() -> dict[str, Any]:
    """As of the job of examples/, with a stage of each source of a time."""
    found = document({"defective": 1116, "functional": 1508})
    counts = ((814, 1055), (186, 186), (116, 267))
    splits = {
        split: {"defective": defective, "functional": functional}
        for split, (defective, functional) in zip(("train", "validation", "test"), counts, strict=True)
    }
    head, blocks = found["phases"][0], [f"block{number}" for number in range(1, 8)]
    stages = ["listing", "preparing", "features", "workers", "head", "fine_tune", "export"]
    return found | {
        "job": "solar-cells",
        "run": {**found["run"], "uri": "s3://bucket/store/runs/solar-cells-0123456789ab/"},
        "data": found["data"] | {"examples": 2624, "counts": splits},
        "network": found["network"]
        | {
            "backbone": "efficientnet_lite0",
            "work": 385_000_000,
            "work_below_cut": 298_000_000,
            "cut": "block6_add",
            "shape": [7, 7, 192],
            "reason": "stored at block6_add (18 KiB an example, 47 MiB of 9 GiB): an epoch reads for 0.04 s instead of "
            "computing for 16 s on this machine",
            "parameters": 3_413_024,
            "head_parameters": 328_450,
            "blocks": [
                {"name": name, "layers": 9, "parameters": 480_000, "trainable": 460_000 * (name > "block5")}
                for name in blocks
            ],
        },
        "cache": {
            "tensors": [
                tensor("pooled", 2624, 2000, 13_434_880),
                tensor("block6_add", 2624, 0, 49_373_184),
            ],
            "examples_to_compute": 2624,
            "passes_to_compute": 2624,
            "work": 1_010_240_000_000,
            "bytes_to_write": 52_568_064,
        },
        "phases": [
            {**head, "trainable": 328_450, "forward_per_epoch": 6.14e8, "backward_per_epoch": 1.23e9, "work": 2.4e10},
            {
                **head,
                "name": "fine_tune",
                "trainable": 920_000,
                "epochs": {"low": 10, "likely": 10, "high": 10},
                "assumes": "phases.fine_tune.epochs: all of them",
                "forward_per_epoch": 1.63e11,
                "backward_per_epoch": 3.25e11,
                "work": 4.9e12,
            },
        ],
        "time": {
            "stages": [
                {"name": name, "seconds": {"low": 2.0 * at, "likely": 3.0 * at, "high": 5.0 * at}, "source": source}
                for at, (name, source) in enumerate(zip(stages, cycle(SOURCES), strict=False), 1)
            ],
            "total": {"low": 56.0, "likely": 84.0, "high": 140.0},
            "note": "",
            "last_run": "solar-cells-ba9876543210 took 2.1 min",
            "calibration": {
                "decode": 0.01,
                "network": 0.01,
                "start": 9.0,
                "head": {"step": 0.01, "predict": 0.01, "compile": 1.0},
                "fine_tune": None,
                "took": 21.0,
                "notes": ["measured with 2 workers on this machine"],
            },
        },
        "memory": {
            "process": 600 * 2**20,
            "parameters": 13 * 2**20,
            "gradients": 5 * 2**20,
            "optimizer": 10 * 2**20,
            "checkpoints": 0,
            "activations": 420 * 2**20,
            "batches": 9 * 2**20,
            "features": 47 * 2**20,
            "total": 1057 * 2**20,
        },
    }


def test_the_whole_screen_is_what_was_looked_at() -> None:
    """THAW_WRITE_GOLDEN=1 writes the file anew, to be looked at."""
    told = "".join(f"{line.rstrip()}\n" for line in printed(solar_cells()).splitlines())
    if os.environ.get("THAW_WRITE_GOLDEN"):
        GOLDEN.write_text(told, encoding="utf-8")
    assert told == GOLDEN.read_text(encoding="utf-8")
    assert max(map(cell_len, told.splitlines())) <= 80


NASTY = {"<b>bold</b>": 3, "[red]x[/red]": 4, "line\nbreak": 5, "\x1b[2J": 6, "😀" * 40: 7, "x" * 300: 8, "": 0}


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_of_a_name_acts_on_the_terminal(terminal: bool) -> None:
    text = printed(document(NASTY), terminal=terminal)
    assert "\x1b" not in text
    for shown in ("<b>bold</b>", "[red]x[/red]", r"line\nbreak", r"\x1b[2J", "[red]broken[/red]", r"'a\n[blink]b'"):
        assert shown in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_thousand_classes_are_told_by_the_largest_and_the_rarest() -> None:
    text = printed(document({f"class {n:04d}": n for n in range(1, 1001)}))
    assert "… 988 more" in text
    assert "21 to 2,982 each" in text
    assert "class 1000" in text
    assert "class 0001" in text
    assert len(text.splitlines()) < 80


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    assert [bar(value, 100, 10) for value in (0, 0.1, 50, 100)] == ["", "▏", "█████", "██████████"]
    assert bar(53, 100, 10) == "█████▎"
    assert bar(1, 0) == "▏"


def test_figures_in_words() -> None:
    assert [duration(s) for s in (0, 2.31, 45, 750, 12_000)] == ["0 s", "2.3 s", "45 s", "12 min", "3 h 20 min"]
    assert [size(n) for n in (12, 5000, 20 * 2**30)] == ["12 bytes", "4.9 KiB", "20 GiB"]
    assert [work(n) for n in (5, 4.81e12, 1.2e9)] == ["5", "4.81 T", "1.2 G"]
    assert plain("a" * 50, 10) == "aaaaaaaaa…"
