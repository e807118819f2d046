"""The formats of a finished run: real files, asked by the runtimes that they are for; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.config import FORMATS, Job
from job.data.snapshot import stored_snapshot
from job.errors import DataError, JobError, StorageError
from job.export import formats
from job.export.formats import onnx_file, tflite_file
from job.export.formats.subject import in_float32
from job.export.formats.word_rows import rows_of, word_layer
from job.export.further import export_formats, export_run
from job.export.samples import Sampler
from job.run.run import open_run
from support import exported, images
from support.cases import slow
from support.events import Heard
from support.results import write_result
from support.tools import leave_out


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    try:
        formats.check_formats(FORMATS)
    except JobError as error:
        leave_out(str(error))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return exported.finished_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return exported.finished_texts(tmp_path_factory.mktemp("texts"))


def asking(run: exported.Finished, *names: str) -> Job:
    return Job.model_validate({**run.job.model_dump(by_alias=True), "export": {"formats": names}})


def sampler(run: exported.Finished) -> Sampler:
    snapshot = stored_snapshot(run.store, run.result.snapshot)
    assert snapshot is not None
    return Sampler(run.job, run.store, exported.RUN, snapshot=snapshot)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *(("pictures", name) for name in FORMATS),
        ("texts", "onnx"),
        *slow(*(("texts", name) for name in FORMATS if name != "onnx")),
    ],
)
def test_a_file_answers_as_the_network(task: str, name: str, request: pytest.FixtureRequest) -> None:
    run: exported.Finished = request.getfixturevalue(task)
    heard = Heard()
    made = export_run(run.uri, [name], None, emit=heard)
    assert made == {name: f"{run.uri}model/1/{name}/"}
    folder = run.model / name
    described = json.loads((folder / "format.json").read_text())
    content = (folder / described["file"]).read_bytes()
    asked = sampler(run).take(["test"], 20, 1).inputs
    wanted = run.logits(asked.astype(run.logits.input.dtype), training=False)
    if task == "texts":
        layer = word_layer(run.logits)
        assert layer is not None
        asked = rows_of(layer, asked)
    if name == "onnx":
        got = onnx_file.probabilities(content, asked, described["input"]["dtype"])
    else:
        got = tflite_file.probabilities(content, asked)
    atol = {"onnx": 1e-5, "tflite_float16": 2e-3, "tflite_int8": 0.1}[name]
    np.testing.assert_allclose(got, keras.ops.softmax(wanted), atol=atol)
    check = described["check"]
    assert check["logit_scale"] >= 1
    assert check["largest_logit_difference"] < check["allowed"]["largest_logit_difference"] / 2
    assert described["check"]["examples"] >= 32
    assert f"{name}: 100.0% of" in heard.of("note")[0]


def test_what_is_there_already_is_not_made_again_and_is_copied(pictures: exported.Finished, tmp_path: Path) -> None:
    first, again = Heard(), Heard()
    export_run(pictures.uri, ["tflite_float16"], None, emit=first)
    made = export_run(pictures.uri, ["tflite_float16"], str(tmp_path / "out"), emit=again)
    assert again == []
    assert made == {"tflite_float16": f"file://{tmp_path}/out/tflite_float16/"}
    for folder in (pictures.model, tmp_path / "out"):
        names = sorted(path.name for path in (folder / "tflite_float16").iterdir())
        assert names == ["files.json", "format.json", "labels.json", "model.tflite"]


def test_a_file_that_answers_otherwise_is_not_written(
    pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = tflite_file.convert

    def spoiled(network: keras.Model, name: str, representative: np.ndarray) -> bytes:
        other = keras.models.clone_model(network)
        other.set_weights(network.get_weights())
        logits = other.get_layer("head_logits")
        logits.set_weights([-weights for weights in logits.get_weights()])
        return convert(other, name, representative)

    monkeypatch.setattr(tflite_file, "convert", spoiled)
    shutil.rmtree(pictures.model / "tflite_float16", ignore_errors=True)
    with pytest.raises(JobError, match=r"not written.* differ by up to (1|0\.9\d*), 0\.0% keep their class"):
        export_run(pictures.uri, ["tflite_float16"], None, emit=Heard())
    assert not (pictures.model / "tflite_float16").exists()


def test_a_run_whose_format_fails_ends_with_its_result_and_a_warning(
    pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> bytes:
        raise JobError("onnx: this network can't be converted: Conv is missing.")

    job = asking(pictures, "onnx", "tflite_float16")
    shutil.rmtree(pictures.model / "onnx", ignore_errors=True)
    monkeypatch.setattr(onnx_file, "convert", refuse)
    heard = Heard()
    formats = export_formats(job, pictures.store, exported.RUN, result=pictures.result, emit=heard)
    assert formats == {"onnx": None, "tflite_float16": f"{pictures.uri}model/1/tflite_float16/"}
    assert heard.of("warning")[0].startswith(
        "onnx: this network can't be converted: Conv is missing. The run itself is"
    )


def test_formats_are_no_part_of_the_run_and_nothing_is_said_without_them(pictures: exported.Finished) -> None:
    job = asking(pictures, "onnx")
    assert job.meaning() == pictures.job.meaning()
    heard = Heard()
    assert export_formats(pictures.job, pictures.store, exported.RUN, result=pictures.result, emit=heard) is None
    assert heard == []


def test_a_source_that_is_gone_is_named(pictures: exported.Finished) -> None:
    shutil.rmtree(pictures.model / "onnx", ignore_errors=True)
    source = Path(pictures.job.data.source.removeprefix("file://"))
    source.rename(source.parent / "elsewhere")
    try:
        with pytest.raises(
            DataError, match=r"source/: 0 of the run's examples can still be read there, .* put the oth"
        ):
            export_run(pictures.uri, ["onnx"], None, emit=Heard())
    finally:
        (source.parent / "elsewhere").rename(source)


def test_examples_are_the_same_each_time_and_those_that_changed_are_left_out(pictures: exported.Finished) -> None:
    first, again = (sampler(pictures).take(["train"], 10, 1) for _ in range(2))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    keys = pictures.examples.table["key"].to_pylist()
    changed = next(key for key, split in zip(keys, pictures.examples.splits, strict=True) if split == 0)
    Path(pictures.job.data.source.removeprefix("file://"), changed).write_bytes(images.picture(99, "red", size=77))
    left = sampler(pictures).take(["train"], 10, 1)
    np.testing.assert_array_equal(left.inputs[:9], first.inputs[1:])


def test_texts_need_no_source_but_their_vectors(texts: exported.Finished, tmp_path: Path) -> None:
    folder = Path(texts.job.data.source.removeprefix("file://")).parent
    shutil.copytree(folder, tmp_path / "copied")
    source, vectors = folder / "source", folder / "vectors.txt"
    content = vectors.read_bytes()
    shutil.rmtree(source)
    try:
        export_run(texts.uri, ["tflite_float16"], str(tmp_path / "out"), emit=Heard())
        lines = (tmp_path / "out/tflite_float16/vocabulary.txt").read_text().splitlines()
        assert {"mast", "n't", "rope"} <= set(lines)
        shutil.rmtree(texts.model / "onnx", ignore_errors=True)
        vectors.write_bytes(b"\n".join(line for line in content.splitlines() if not line.startswith(b"rope ")))
        with pytest.raises(StorageError, match=r"vectors\.txt was written since the run: it lacks 1 of its \d+ words"):
            export_run(texts.uri, ["onnx"], None, emit=Heard())
    finally:
        shutil.copytree(tmp_path / "copied/source", source)
        vectors.write_bytes(content)


@pytest.mark.slow
def test_a_recurrent_network_is_for_onnx(tmp_path: Path) -> None:
    run = exported.finished_texts(tmp_path, 60, "model.encoder=gru")
    with pytest.raises(JobError, match=r"tflite_float16: .* lacks what it needs \(TensorListReserve\)\. Use"):
        export_run(run.uri, ["tflite_float16"], None, emit=Heard())
    assert export_run(run.uri, ["onnx"], None, emit=Heard())


def test_layers_in_bfloat16_are_exported_in_float32() -> None:
    layers = keras.layers
    image = keras.Input([4, 4, 3], name="image")
    normalization = layers.Normalization(dtype="mixed_bfloat16")
    normalized = normalization(image)
    normalization.adapt(np.array([[[[1.0, 2, 3], [5, 6, 7]]]], np.float32))
    dense = layers.Dense(2, dtype="mixed_bfloat16")(layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(normalized))
    model = keras.Model(image, layers.Softmax(dtype="float32")(dense))
    clone = in_float32(model)
    assert {layer.compute_dtype for layer in clone.layers} == {"float32"}
    for ours, theirs in zip(model.get_weights(), clone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert in_float32(clone) is clone
    normalized = keras.Model(clone.input, clone.layers[1].output)(np.full([1, 4, 4, 3], 5, np.float32)).numpy()
    np.testing.assert_allclose(normalized[0, 0, 0], [1, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"), [("onx", r"no format 'onx' \(nearest: 'onnx'\)"), ("onnx", r"pip install 'thaw\[onnx\]'")]
)
def test_what_is_unknown_or_not_installed_is_told_first(
    name: str, told: str, pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda package: None)
    with pytest.raises(JobError, match=told):
        export_run(pictures.uri, [name], None, emit=Heard())


def test_a_run_without_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "store/runs/x").mkdir(parents=True)
    store, _ = open_run(str(tmp_path / "store/runs/x"))
    write_result(store, "x", model=None)
    with pytest.raises(JobError, match="has no finished model: run it to its end first"):
        export_run(str(tmp_path / "store/runs/x"), ["onnx"], None, emit=Heard())
