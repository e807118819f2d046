"""A base that ends in a classifier of its own is told from one that ends in features; and `end_at` ends it below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.config import Model, UnfreezeFrom
from job.errors import JobError
from job.model.anatomy import Anatomy, anatomy_of, read_anatomy, write_anatomy
from job.model.backbones import base_on, build_base
from job.model.classifier import Classifier, classifier_of
from job.model.cut import cut_named, cuts, split
from job.model.freezing import blocks, thaw
from job.model.network import variables_by_path
from job.model.weights import load_base, resolve_base
from job.storage import open_store

layers = keras.layers
IMAGE = (16, 16, 3)


def quiet(_: str) -> None:
    pass


def network(*ends: Any) -> keras.Model:
    """A convolution, and on top of it these layers."""
    return keras.Sequential([keras.Input(IMAGE), layers.Conv2D(40, 3, name="conv"), *ends])


def base(*ends: Any) -> keras.Model:
    return base_on(Model(backbone="file:///own.keras", image_size=16), network(*ends))


def pool() -> Any:
    return layers.GlobalAveragePooling2D(name="pool")


def dense(units: int, activation: str | None = None, name: str = "last") -> Any:
    return layers.Dense(units, activation, name=name)


CLASSIFIERS = {
    "softmax": ([pool(), dense(5, "softmax")], Classifier("last", 5, "softmax", "pool")),
    "below a dropout": ([pool(), layers.Dropout(0.5), dense(5, "softmax")], Classifier("last", 5, "softmax", "pool")),
    "labels": ([pool(), dense(80, "sigmoid")], Classifier("last", 80, "sigmoid", "pool")),
    "one": ([pool(), dense(1, "sigmoid")], Classifier("last", 1, "sigmoid", "pool")),
    "activation": ([pool(), dense(500), layers.Activation("softmax")], Classifier("last", 500, "softmax", "pool")),
    "layer": ([pool(), dense(500), layers.Softmax()], Classifier("last", 500, "softmax", "pool")),
    "logits": ([pool(), dense(5)], Classifier("last", 5, "logits", "pool")),
    "logits by name": ([pool(), dense(1000, name="predictions")], Classifier("predictions", 1000, "logits", "pool")),
    "hidden": (
        [pool(), dense(64, "relu", "hidden"), dense(5, "softmax")],
        Classifier("last", 5, "softmax", "hidden"),
    ),
    "flat": ([layers.Flatten(name="flat"), dense(5, "softmax")], Classifier("last", 5, "softmax", "flat")),
    "convolution": (
        [pool(), layers.Reshape([1, 1, 40]), layers.Conv2D(9, 1, name="preds"), layers.Reshape([9]), layers.Softmax()],
        Classifier("preds", 9, "softmax", "reshape"),
    ),
    "places": ([layers.Conv2D(9, 1, activation="softmax", name="preds")], Classifier("preds", 9, "softmax", "conv")),
    "kept in float32": (
        [pool(), dense(5), layers.Activation("softmax", dtype="float32")],
        Classifier("last", 5, "softmax", "pool"),
    ),
}
FEATURES = {
    "pooled": [pool()],
    "places": [],
    "activation": [layers.BatchNormalization(), layers.ReLU()],
    "embedding": [pool(), dense(128)],
    "embedding of unit length": [pool(), dense(128), layers.UnitNormalization()],
    "hidden": [pool(), dense(16, "relu")],
    "few channels": [layers.Conv2D(8, 1)],
    "normalized": [pool(), dense(256), layers.BatchNormalization()],
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_is_told_with_the_layer_below_it(name: str) -> None:
    ends, wanted = CLASSIFIERS[name]
    keras.utils.clear_session()
    assert classifier_of(base(*ends)) == wanted


@pytest.mark.parametrize("name", FEATURES)
def test_what_ends_in_features_is_no_classifier(name: str) -> None:
    assert classifier_of(base(*FEATURES[name])) is None


def test_a_network_inside_another_is_seen_through() -> None:
    image = keras.Input(IMAGE)
    whole = keras.Model(image, network(pool(), dense(5, "softmax"))(image))
    assert classifier_of(base_on(Model(backbone="file:///own.keras", image_size=16), whole)) == Classifier(
        "last", 5, "softmax", "pool"
    )


def test_a_network_of_nothing_but_a_classifier_has_no_layer_to_end_at() -> None:
    model = keras.Sequential([keras.Input(IMAGE), layers.Flatten(), dense(5, "softmax")])
    found = classifier_of(base_on(Model(backbone="file:///own.keras", image_size=16), model))
    assert found == Classifier("last", 5, "softmax", None)
    assert found.advice("own.keras").endswith(
        "its 5 softmax outputs would be all features. Give a network that ends in features."
    )


def test_the_pretrained_networks_are_no_classifiers() -> None:
    for name in ("efficientnet_lite0", "mobilenetv3small"):
        assert classifier_of(build_base(Model(backbone=name, weights=None, image_size=32))) is None


def test_it_is_known_again_without_the_network(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/")
    for ends in ([pool(), dense(5, "softmax")], [pool()]):
        anatomy = anatomy_of(base(*ends), None)
        write_anatomy(store, "run", anatomy)
        assert read_anatomy(store, "run") == anatomy
    assert Anatomy((), 1, 0, 0, 0, ()).classifier is None


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """A network in a network, with a classifier on it."""
    inner = keras.Sequential(
        [keras.Input(IMAGE), layers.Conv2D(4, 3, name="a"), layers.BatchNormalization(name="b")], name="inner"
    )
    image = keras.Input(IMAGE)
    x = layers.Conv2D(6, 3, name="c")(inner(image))
    x = layers.Dense(5, activation="softmax", name="classes")(layers.GlobalAveragePooling2D(name="pool")(x))
    keras.Model(image, x).save(tmp_path / "own.keras")
    return f"file://{tmp_path}/own.keras"


@pytest.mark.parametrize(("end", "length"), [("pool", 6), ("c", 6), ("b", 4), ("inner", 4), ("classes", 5)])
def test_a_base_ends_where_the_job_says(end: str, length: int, saved: str, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    model = Model(backbone=saved, image_size=16, end_at=end)
    resolved, made = resolve_base(model, store, 0, log=quiet)
    loaded = load_base(model, store, resolved)
    whole = keras.saving.load_model(saved.removeprefix("file://"))
    inputs = np.random.default_rng(0).integers(0, 256, (2, *IMAGE)).astype(np.float32)
    tensor = whole.get_layer(end).output if end in ("pool", "c", "classes") else whole.get_layer("inner").output
    wanted = keras.Model(whole.inputs, tensor)(inputs, training=False).numpy()
    wanted = wanted.mean(axis=(1, 2)) if wanted.ndim == 4 else wanted
    for one in (made, loaded):
        assert one.output_shape == (None, length)
        np.testing.assert_allclose(one(inputs, training=False).numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert ("c/kernel" in variables_by_path(loaded)) == (end in ("pool", "c", "classes"))


def test_an_end_that_is_not_there_is_told_with_the_nearest(saved: str, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    with pytest.raises(JobError, match=r"^model\.end_at: no layer 'pol' in file://.*own\.keras \(nearest: 'pool'\)\.$"):
        resolve_base(Model(backbone=saved, image_size=16, end_at="pol"), store, 0, log=quiet)
    with pytest.raises(JobError, match=r"no layer 'block5_pol' in vgg16 \(nearest: 'block5_pool'\)"):
        build_base(Model(backbone="vgg16", image_size=32, end_at="block5_pol"))


def test_an_end_of_another_rank_is_refused(tmp_path: Path) -> None:
    network(layers.Reshape([4, -1], name="rows"), layers.Flatten()).save(tmp_path / "own.keras")
    model = Model(backbone=f"file://{tmp_path}/own.keras", image_size=16, end_at="rows")
    with pytest.raises(
        JobError, match=r"model\.end_at: 'rows' must end in one tensor of rank 2 or 4, not in \(None, 4, 1960\)"
    ):
        build_base(model, f"{tmp_path}/own.keras")


def test_what_is_left_is_cut_and_thawed_as_any_base() -> None:
    ended = build_base(Model(backbone="vgg16", image_size=32, weights="none", end_at="block4_conv3"))
    whole = build_base(Model(backbone="vgg16", image_size=32, weights="none"))
    assert [block.name for block in blocks(ended)] == [block.name for block in blocks(whole)][:-1]
    assert {layer.name for layer in thaw(ended, UnfreezeFrom.model_validate({"from": "block4_conv2"}))} == {
        "block4_conv2",
        "block4_conv3",
    }
    assert [cut.layer for cut in cuts(ended)] == [cut.layer for cut in cuts(whole)][: len(cuts(ended))]
    prefix, suffix = split(ended, cut_named(ended, "block4_conv1"))
    inputs = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(suffix(prefix(inputs)).numpy(), ended(inputs).numpy())


def test_weights_of_the_whole_network_are_given_to_what_is_left(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    whole = Model(backbone="vgg16", image_size=32, weights="none")
    resolved, base = resolve_base(whole, store, 0, log=quiet)
    uri = f"{store.uri}weights/{resolved.weights_sha256}.safetensors"
    model = Model.model_validate({"backbone": "vgg16", "image_size": 32, "weights": uri, "end_at": "block2_pool"})
    _, ended = resolve_base(model, store, 0, log=quiet)
    left = variables_by_path(ended)
    assert set(left) < set(variables_by_path(base))
    assert all((variable.numpy() == variables_by_path(base)[path].numpy()).all() for path, variable in left.items())


def test_glove_has_no_layer_to_end_at() -> None:
    with pytest.raises(ValueError, match="end_at: glove has no layers"):
        Model.model_validate({"backbone": "glove", "weights": "/vectors.txt", "end_at": "x"})
