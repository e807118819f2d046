"""What every model is exported as answers, loaded again, as the network that was trained, or is not in the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import save

from job.config import Job
from job.data.forms import Form
from job.data.snapshot import Snapshot, stored_snapshot
from job.errors import JobError
from job.export import exported as exported_model
from job.export import exporter as export
from job.export.formats import reloaded
from job.export.formats.check import Agreement
from job.export.formats.reloaded import CHECKED, SYNTHETIC, Encoded, check_reloaded, examples_of, synthetic_examples
from job.model.network import variables_by_path
from job.model.refresh import refresh
from job.model.resolved import ResolvedBase
from job.model.weights import resolve_base
from job.run.run import Run
from job.run.word_vectors import resolve_vectors
from job.storage import open_store
from support import exported
from support.events import Heard
from support.finished import parquet
from support.kinds import READ


def finished(run: exported.Finished) -> exported.Finished:
    """With what the export reads of a run."""
    trained = {path: v.numpy() for path, v in variables_by_path(run.logits).items() if path.startswith("head_")}
    run.store.write(f"runs/{exported.RUN}/head.safetensors", save(trained))
    table, tested = run.examples.table, run.examples.splits == 2
    chosen = table.filter(tested)
    labels = np.array([run.result.classes.index(label) for label in chosen["label"].to_pylist()])
    logits = {"head": np.zeros([len(labels), 2], np.float32)}
    run.store.write(f"runs/{exported.RUN}/predictions.parquet", parquet(chosen["key"], labels, logits))
    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return finished(exported.finished_pictures(tmp_path_factory.mktemp("pictures")))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return finished(exported.finished_texts(tmp_path_factory.mktemp("texts")))


def snapshot_of(run: exported.Finished) -> Snapshot:
    snapshot = stored_snapshot(run.store, run.result.snapshot)
    assert snapshot is not None
    return snapshot


def base_of(run: exported.Finished) -> ResolvedBase:
    if run.job.task == "text":
        return resolve_vectors(run.job, run.store, Heard())
    return resolve_base(run.job.model, run.store, 0, log=print)[0]


def run_of(run: exported.Finished, job: Job | None = None) -> Run:
    return Run(job or run.job, exported.RUN, run.store, snapshot_of(run), base_of(run))


def export_again(run: exported.Finished, attempt: int, **train: Any) -> list[str]:
    """The names of what is in the store then. Attempt 0 leaves there what was exported before."""
    job = run.job.model_copy(update={"train": run.job.train.model_copy(update=train)})
    export.export_model(run_of(run, job), attempt, kept="head", metrics={}, card=None)
    return stored(run, attempt)


def stored(run: exported.Finished, attempt: int) -> list[str]:
    return [info.key.split("/")[4] for info in run.store.list(f"runs/{exported.RUN}/model/{attempt}/")]


def spoiled(model: keras.Model) -> keras.Model:
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    logits = other.get_layer("head_logits")
    logits.set_weights([-weights for weights in logits.get_weights()])
    return other


@pytest.mark.parametrize("task", ["pictures", "texts"])
def test_a_model_that_answers_as_the_network_is_exported(
    task: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bounds(monkeypatch)
    names = export_again(request.getfixturevalue(task), 0)
    assert {"model.keras", "saved_model", "labels.json", "files.json"} <= set(names)
    assert found == [("keras", False), ("saved_model", False)]


def bounds(patch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Of each comparison from here on: of which file, and whether the wider bound was allowed."""
    found: list[tuple[str, bool]] = []
    check = reloaded.check

    def noted(name: str, compared: Agreement, coarse: bool) -> dict[str, Any]:
        found.append((name, coarse))
        return check(name, compared, coarse)

    patch.setattr(reloaded, "check", noted)
    return found


def test_what_was_checked_is_what_the_report_asks(pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not loaded a third time; that of another export is."""
    export_again(pictures, 0)
    folder = f"{pictures.store.uri}runs/{exported.RUN}/model/"
    loaded: list[str] = []
    download = exported_model.download_files
    monkeypatch.setattr(
        exported_model,
        "download_files",
        lambda store, *rest: (loaded.append(store.uri), download(store, *rest)),
    )
    inputs = np.random.default_rng(0).integers(0, 256, [2, *pictures.logits.input_shape[1:]]).astype(np.float32)
    remembered = exported_model.load_exported(open_store(f"{folder}0/"))
    assert loaded == []
    stored_there = exported_model.load_file(Path(f"{folder.removeprefix('file://')}0/model.keras"))
    assert np.asarray(remembered(inputs)).tobytes() == np.asarray(stored_there(inputs)).tobytes()
    exported_model.load_exported(open_store(f"{folder}1/"))
    assert loaded == [f"{folder}1/"]


def spoil_keras(patch: pytest.MonkeyPatch) -> None:
    save_model = keras.Model.save
    patch.setattr(keras.Model, "save", lambda model, path: save_model(spoiled(model), path))


def spoil_saved_model(patch: pytest.MonkeyPatch) -> None:
    save_model = export._save_saved_model
    patch.setattr(export, "_save_saved_model", lambda model, *rest, path: save_model(spoiled(model), *rest, path=path))


def decode_otherwise(patch: pytest.MonkeyPatch) -> None:
    form_of = export.form_of

    def cropped(job: Job) -> Form:
        return form_of(job.model_copy(update={"model": job.model.model_copy(update={"resize": "crop"})}))

    patch.setattr(export, "form_of", cropped)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [("keras", spoil_keras), ("saved_model", spoil_saved_model), ("saved_model", decode_otherwise)],
)
def test_one_that_answers_otherwise_is_not_in_the_store(
    name: str, spoil: Callable[[pytest.MonkeyPatch], None], pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    told = rf"^{name}: not written, since it does not answer as the network that was trained\. On 16 examples probab"
    with pytest.raises(JobError, match=told):
        export_again(pictures, 7)
    assert stored(pictures, 7) == []


def test_one_that_can_not_be_loaded_again_is_not_in_the_store(
    pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.Model, "save", lambda model, path: path.write_bytes(b"no model"))
    with pytest.raises(JobError, match=r"^keras: not written, since it can't be used: .*what was trained is kept\.$"):
        export_again(pictures, 7)
    assert stored(pictures, 7) == []


@pytest.mark.parametrize("task", ["pictures", "texts"])
def test_the_examples_are_of_the_test_split_and_made_up_where_none_is_left(
    task: str, request: pytest.FixtureRequest
) -> None:
    run: exported.Finished = request.getfixturevalue(task)
    tested = [one for one, split in zip(run.encoded, run.examples.splits, strict=True) if split == 2]
    keys = run.examples.table["key"].filter(run.examples.splits == 2).to_pylist()
    assert examples_of(run_of(run)).examples == tested[:CHECKED]
    source = Path(run.job.data.source.removeprefix("file://"))
    shutil.copytree(source, source.parent / "kept")
    try:
        (source / keys[0]).unlink()
        assert examples_of(run_of(run)).examples == tested[1:CHECKED]
        shutil.rmtree(source)
        left = examples_of(run_of(run))
        assert left.examples == synthetic_examples(run.job, run.result.classes).examples
        assert len(left.examples) == SYNTHETIC
        check_reloaded(run.job, run.logits, run.model, examples=left)
        with pytest.raises(JobError, match="On 4 examples probabilities differ"):
            check_reloaded(run.job, spoiled(run.logits), run.model, examples=left)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.move(source.parent / "kept", source)


def test_what_computes_in_bfloat16_has_a_wider_bound(
    pictures: exported.Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bounds(monkeypatch)
    assert "model.keras" in export_again(pictures, 0, precision="mixed_bfloat16")
    assert found == [("keras", True), ("saved_model", True)]


def test_pictures_that_tensorflow_decodes_otherwise_raise_no_alarm(pictures: exported.Finished) -> None:
    encoded = [READ[kind]() for kind in ("BMP, palette", "PNG, turned", "GIF, transparent", "WebP, animated", "TIFF")]
    examples = Encoded(encoded, np.zeros(len(encoded), np.int32))
    check_reloaded(pictures.job, pictures.logits, pictures.model, examples=examples)


def test_answers_that_are_no_numbers_are_equal_where_the_networks_are_none(
    pictures: exported.Finished, tmp_path: Path
) -> None:
    broken = keras.models.clone_model(pictures.logits)
    broken.set_weights(pictures.logits.get_weights())
    kernel, bias = broken.get_layer("head_logits").get_weights()
    broken.get_layer("head_logits").set_weights([kernel, bias * np.nan])
    examples = examples_of(run_of(pictures))
    export.write_model(pictures.job, broken, pictures.result.classes, metrics={}, card=None, folder=tmp_path)
    check_reloaded(pictures.job, broken, tmp_path, examples=examples)
    with pytest.raises(JobError, match="differ by up to nan"):
        check_reloaded(pictures.job, pictures.logits, tmp_path, examples=examples)


def certain_network(pixels: int) -> keras.Model:
    """Its probabilities are 0 and 1, whatever it is shown; it normalizes pictures by what it was adapted to."""
    image = keras.Input([pixels, pixels, 3], name="image")
    normalization = keras.layers.Normalization(name="normalization")
    x = keras.layers.GlobalAveragePooling2D()(normalization(image))
    bias = keras.initializers.Constant([0.0, 500.0])
    kernel = keras.initializers.RandomUniform(-0.3, 0.3, seed=0)  # of pixels up to 255, less than the bias
    logits = keras.layers.Dense(2, kernel_initializer=kernel, bias_initializer=bias, name="head_logits")(x)
    network = keras.Model(image, logits)
    normalization.adapt_mean.assign([124.0, 116.0, 104.0])
    normalization.adapt_variance.assign([50.0, 50.0, 50.0])
    return network


@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_a_layer_that_answers_otherwise_once_it_is_loaded_is_seen_in_the_logits(
    name: str, pictures: exported.Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras makes a Normalization's constants of its variables when it loads a file, and at no other time."""
    network = certain_network(32)
    examples = examples_of(run_of(pictures))
    if name == "saved_model":
        monkeypatch.setattr(reloaded, "load_with_logits", lambda path: exported_model.compiled(with_softmax(network)))
        export.write_model(pictures.job, network, ["a", "b"], metrics={}, card=None, folder=tmp_path)
        refresh(network)
    else:
        export.write_model(pictures.job, network, ["a", "b"], metrics={}, card=None, folder=tmp_path)
    told = rf"^{name}: not written, .*probabilities differ by up to 0, 100\.0% keep their class, logits, of up to"
    with pytest.raises(JobError, match=told):
        check_reloaded(pictures.job, network, tmp_path, examples=examples)
    refresh(network)
    export.write_model(pictures.job, network, ["a", "b"], metrics={}, card=None, folder=tmp_path)
    check_reloaded(pictures.job, network, tmp_path, examples=examples)


def with_softmax(network: keras.Model) -> keras.Model:
    return keras.Model(network.input, keras.layers.Softmax()(network.output))
