"""The lines of docs/export.md that run a file do run it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from job.config import FORMATS
from job.errors import JobError
from job.export.formats import check_formats
from job.export.further import export_run
from support import exported, texts
from support.events import Heard
from support.images import picture
from support.tools import leave_out

pytestmark = pytest.mark.slow  # each example is a process of another runtime
PAGE = Path(__file__).parents[2] / "docs/export.md"
ONNX, TFLITE, TEXT, SAVED_MODEL = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    try:
        check_formats(FORMATS)
    except JobError as error:
        leave_out(str(error))
    run = exported.finished_pictures(tmp_path_factory.mktemp("pictures"))
    export_run(run.uri, FORMATS, None, emit=Heard())
    return run


def printed(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("code", "name"), [(ONNX, "onnx"), (TFLITE, "tflite_float16"), (TFLITE, "tflite_int8")])
def test_a_picture(code: str, name: str, pictures: exported.Finished, tmp_path: Path) -> None:
    content = picture(1000, "red", size=32)  # it is resized in one direction, or not at all
    (tmp_path / "red.png").write_bytes(content)
    answer = ast.literal_eval(printed(code, str(pictures.model / name), str(tmp_path / "red.png")))
    assert list(answer) == ["green", "red"]
    np.testing.assert_allclose(list(answer.values()), pictures.probabilities([content])[0], atol=0.1)


def test_the_saved_model(pictures: exported.Finished, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture(1000, "red"))
    label, _, chances = printed(SAVED_MODEL, str(pictures.model), str(tmp_path / "red.png")).partition(" ")
    assert label == "red"
    assert sum(ast.literal_eval(chances)) == pytest.approx(1, abs=1e-5)


def test_texts(tmp_path: Path) -> None:
    run = exported.finished_texts(tmp_path)
    export_run(run.uri, ["onnx"], None, emit=Heard())
    for text in (texts.text(1000, "sailing"), "We don't WHISK; it’s the rope’s-end, mast_keel?"):
        answer = ast.literal_eval(printed(TEXT, str(run.model / "onnx"), text))
        np.testing.assert_allclose(list(answer.values()), run.probabilities([text.encode()])[0], atol=1e-4)
