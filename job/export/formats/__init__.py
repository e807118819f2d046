"""Exports the model in other formats. Each is compared with model.keras on real examples before it is written; and
model.keras and the SavedModel with the trained network (see `reloaded`).

tflite_float16/model.tflite   weights in float16
tflite_int8/model.tflite      weights and activations in int8
onnx/model.onnx               float32
…/labels.json                 the same as the model's
…/vocabulary.txt              the vocabulary of word vectors, a word a line
…/format.json                 the inputs and outputs of the file, and the results of its check
…/files.json                  the sha256 of each of these files, written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job.config import FORMATS
from job.errors import JobError, nearest
from job.libraries import library_version

if TYPE_CHECKING:
    from job.export.formats.subject import Subject

PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "tflite": ("ai_edge_litert",)}
"""The packages that each extra installs."""
MADE_WITH = {"onnx": ("tensorflow", "tf2onnx"), "tflite": ("tensorflow",)}


def check_formats(formats: Sequence[str]) -> None:
    """Raises JobError where a format is unknown, or a package that it needs is not installed."""
    for name in formats:
        if name not in FORMATS:
            raise JobError(f"no format {name!r}{nearest(name, FORMATS)}: there are {', '.join(FORMATS)}.")
        extra = name.partition("_")[0]
        missing = [package for package in PACKAGES[extra] if find_spec(package) is None]
        if missing:
            raise JobError(f"{name}: {missing[0]} is not installed: pip install 'thaw[{extra}]'.")


def write_format(name: str, subject: Subject, labels: Path, *, folder: Path) -> dict[str, Any]:
    """Writes the files of a format into `folder`, and returns the results of its check. Raises JobError where the
    network can't be converted, or the file answers differently.
    """
    from job.export.formats import onnx_file, tflite_file
    from job.export.formats.check import Answers, check, compare

    network, inputs = subject.network, subject.inputs
    if name == "onnx":
        content = onnx_file.convert(network)
        answers = Answers(*onnx_file.logits_and_probabilities(content, inputs, network.input.dtype))
    else:
        content = tflite_file.convert(network, name, subject.representative)
        answers = Answers(tflite_file.logits(content, inputs), tflite_file.probabilities(content, inputs))
    agreement = check(name, compare(subject.answers, answers, subject.labels))
    file = f"model.{name.partition('_')[0]}"
    classes = network.output_shape[-1]
    description = {
        "format": name,
        "file": file,
        "input": {
            "name": network.input.name,
            "dtype": network.input.dtype,
            "shape": ["n", *network.input_shape[1:]],
            "of": _meaning(subject),
        },
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["n", classes]},
        "check": agreement,
        **({"representative_examples": len(subject.representative)} if name == "tflite_int8" else {}),
        "made_with": {name: library_version(name) for name in MADE_WITH[name.partition("_")[0]]},
    }
    (folder / file).write_bytes(content)
    shutil.copyfile(labels, folder / "labels.json")
    if subject.vocabulary:
        (folder / "vocabulary.txt").write_text("\n".join(subject.vocabulary) + "\n", encoding="utf-8")
    (folder / "format.json").write_text(json.dumps(description, indent=1))
    return agreement


def _meaning(subject: Subject) -> str:
    if subject.vocabulary:
        return "line numbers of the text's first words in vocabulary.txt, from 1; 0: padding, or not in it"
    if len(subject.network.input_shape) == 2:
        return "ids of the text's first words, as docs/text.md has them; 0: padding"
    return "red, green and blue of the resized picture, 0 to 255"
