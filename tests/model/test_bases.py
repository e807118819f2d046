"""Every network of keras.applications answers here as Keras's own does with the same pretrained weights, whatever form
they come in; the weights are stand-ins in the format that Keras downloads.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from job.config import Model, Weights
from job.errors import JobError
from job.model import refresh as state
from job.model.applications import application_names, build_application
from job.model.backbones import build_base
from job.model.tensors import assign, values
from job.model.weights import load_base, resolve_base
from job.storage import open_store
from support import bases
from support.bases import difference, from_answers, keras_answers, our_base, pictures, relative, stand_in
from support.cases import slow

MOST = 1e-3
"""Standard deviations; 0 to 1e-4 were measured (docs/bases.md), and more than 1 where something is wrong."""
NAME = "efficientnetb0"
QUICK = ["vgg16"]


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(NAME, tmp_path_factory.mktemp("weights") / "efficientnetb0_notop.h5")


@pytest.fixture(scope="module")
def answers(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return keras_answers(NAME, file)


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in application_names() if name not in QUICK))])
def test_a_family_answers_as_keras_with_its_weights(name: str, tmp_path: Path) -> None:
    found = difference(name, stand_in(name, tmp_path / "notop.h5"), tmp_path)
    assert found.first_above(MOST) is None
    assert found.features < MOST


def test_a_rescaling_that_keras_adds_to_pretrained_weights_is_there(
    file: Path, answers: tuple[np.ndarray, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    found = from_answers(*answers, our_base(NAME, file, tmp_path, by_uri=False), pictures(32))
    assert {"normalization", "rescaling_1", "stem_conv"} <= found.layers.keys()
    assert found.first_above(MOST) is None
    assert found.features < MOST


@pytest.mark.slow
def test_a_file_of_pretrained_weights_is_as_good_as_the_download(file: Path, tmp_path: Path) -> None:
    """In Keras's download format, and as safetensors of what that came to."""
    wanted = our_base(NAME, file, tmp_path / "download", by_uri=False)
    by_file = our_base(NAME, file, tmp_path / "file", by_uri=True)
    (kept,) = (tmp_path / "file/store/weights").glob("*.safetensors")
    assert [one.name for one in (tmp_path / "download/store/weights").glob("*.safetensors")] == [kept.name]
    inputs = pictures(32)
    assert relative(wanted(inputs).numpy(), by_file(inputs).numpy()) == 0


@pytest.mark.parametrize("broken", ["constants", *slow("layers")])
def test_the_comparison_shows_what_keras_would_answer_otherwise(
    broken: str,
    file: Path,
    answers: tuple[np.ndarray, dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    """Without the layers that belong to pretrained weights; with constants of variables that were assigned since."""
    base = our_base(NAME, file, tmp_path, by_uri=False)
    if broken == "layers":
        other = build_base(Model(backbone=NAME, image_size=32), architecture="none")
        assign(other, values(base), "the same")
        base = other
    else:
        base.get_layer("normalization").mean = np.zeros([1, 1, 1, 3], np.float32)
    found = from_answers(*answers, base, pictures(32))
    assert found.first_above(MOST) == ("stem_conv_pad" if broken == "layers" else "normalization")
    assert found.features > 0.1


@pytest.mark.slow
def test_a_network_that_was_built_without_weights_stays_what_it_was(tmp_path: Path) -> None:
    """Keras gives it no Rescaling: its Normalization was never adapted, or to other pictures."""
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    bases.enliven(network)
    inputs = pictures(32)
    for mean in (0.0, 0.4):
        normalization = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
        normalization.adapt_mean.assign([mean] * 3)
        normalization.finalize_state()
        bases.write(network, tmp_path / f"{mean}.h5")
        wanted = np.asarray(network(inputs, training=False)).mean(axis=(1, 2))
        model = Model(backbone=NAME, image_size=32, weights=Weights(uri=f"file://{tmp_path}/{mean}.h5"))
        store = open_store(f"file://{tmp_path}/{mean}/")
        base = load_base(model, store, resolve_base(model, store, 0, log=quiet)[0])
        assert relative(wanted, base(inputs).numpy()) < MOST


@pytest.mark.parametrize(
    ("suffix", "name"),
    slow((".weights.h5", "mobilenetv3small"), (".weights.h5", NAME), (".weights.h5", "inceptionv3"), (".keras", NAME)),
)
def test_files_that_keras_saves_of_a_pretrained_network_are_read(suffix: str, name: str, tmp_path: Path) -> None:
    file = stand_in(name, tmp_path / "notop.h5")
    build, _ = bases.application(name)
    size = bases.size_of(name)
    bases.reset_uids()
    with bases.downloaded(file):
        network = build(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    saved = tmp_path / f"saved{suffix}"
    network.save_weights(saved) if suffix == ".weights.h5" else network.save(saved)
    features, theirs = keras_answers(name, file)
    found = from_answers(features, theirs, our_base(name, saved, tmp_path, by_uri=True), pictures(size))
    assert found.features < MOST


@pytest.mark.parametrize("name", slow("mobilenetv3small", NAME, "vgg16", "inceptionv3"))
def test_a_file_with_the_classifier_is_read_without_it(name: str, tmp_path: Path) -> None:
    file = stand_in(name, tmp_path / "whole.h5", include_top=True)
    build, module = bases.application(name)
    bases.reset_uids()
    with bases.downloaded(file):
        whole = build(weights="imagenet")
    size = whole.input_shape[1] or 32
    model = Model(backbone=name, image_size=size, weights=Weights(uri=f"file://{file}"))
    _, base = resolve_base(model, open_store(f"file://{tmp_path}/store/"), 0, log=quiet)
    shared = [layer.name for layer in base.layers if layer.weights][-1]
    inputs = pictures(size, 1)
    theirs = keras.Model(whole.input, bases.output_of(whole, shared))(module.preprocess_input(inputs.copy()))
    ours = keras.Model(base.input, bases.output_of(base, shared))(inputs)
    assert relative(np.asarray(theirs), np.asarray(ours)) < MOST


@pytest.mark.slow
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = stand_in("mobilenetv3small", tmp_path / "notop.h5")
    model = Model(backbone="mobilenetv3large", image_size=32, weights=Weights(uri=f"file://{file}"))
    with pytest.raises(JobError, match=r"notop\.h5 does not fit mobilenetv3large, or is broken: "):
        resolve_base(model, open_store(f"file://{tmp_path}/store/"), 0, log=quiet)


def test_nothing_is_fetched_to_build_what_has_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise AssertionError("fetched")

    monkeypatch.setattr(bases.file_utils, "get_file", fetch)
    model = Model(backbone="mobilenetv3small", image_size=32)
    assert build_application(model, "imagenet").count_params() > 0
    with pytest.raises(AssertionError, match="fetched"):
        build_application(model, "imagenet", fetch=True)


def test_a_layer_of_ones_own_follows_weights_that_are_given_to_it(tmp_path: Path) -> None:
    """Normalization inside a model inside a model; and what is drawn anew."""

    def own(mean: float) -> keras.Model:
        normalization = keras.layers.Normalization(name="norm")
        inner = keras.Sequential([keras.Input([16, 16, 3]), normalization], name="inner")
        normalization.adapt(np.array([[[[mean - 1] * 3, [mean + 1] * 3]]], np.float32))
        image = keras.Input([16, 16, 3])
        return keras.Model(image, inner(image))

    own(3.0).save(tmp_path / "own.keras")
    own(7.0).save(tmp_path / "other.keras")
    inputs = np.full([1, 16, 16, 3], 9, np.float32)
    store = open_store(f"file://{tmp_path}/store/")
    for weights, wanted in ((None, 6.0), (Weights(uri=f"file://{tmp_path}/other.keras"), 2.0), ("none", 9.0)):
        model = Model(backbone=f"file://{tmp_path}/own.keras", image_size=16, weights=weights)
        resolved, base = resolve_base(model, store, 0, log=quiet)
        for one in (base, load_base(model, store, resolved)):
            np.testing.assert_allclose(one(inputs).numpy(), [[wanted] * 3], rtol=1e-5)


def test_tables_and_boundaries_are_not_made_again() -> None:
    """What has no variables keeps what it was loaded with."""
    bins = keras.layers.Discretization(bin_boundaries=[1.0, 2.0])
    numbers = keras.Input([3])
    model = keras.Model(numbers, bins(numbers))
    state.refresh(model)
    assert bins.bin_boundaries == [1.0, 2.0]
    assert not state.is_derived(bins)
