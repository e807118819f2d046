from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.utils.naming import reset_uids

from job.config import Model, UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch
from job.model.backbones import build_base, draw_weights
from job.model.cut import Cut, cheapest_cut, cut_named, cuts, legal_cuts, split
from job.model.flatten import flatten
from job.model.freezing import freeze, thaw
from job.model.network import variables_by_path
from job.model.work import nodes
from support.cases import families

FAMILIES = ["convnexttiny", "densenet121", "efficientnet_lite0", "efficientnetv2b0", "inceptionv3", "mobilenet"]
FAMILIES += ["mobilenetv2", "mobilenetv3small", "nasnetmobile", "resnet50", "resnet50v2", "vgg16", "xception"]
LARGER = {"inceptionv3": 75, "xception": 71}


@functools.cache
def network(name: str) -> keras.Model:
    """One for all tests, with small images: each test says what trains."""
    return draw_weights(build_base(Model(backbone=name, image_size=LARGER.get(name, 32), weights="none")), 0)


def conv(name: str, filters: int = 3) -> keras.layers.Layer:
    return keras.layers.Conv2D(filters, 3, padding="same", name=name)


def pooled(image: keras.KerasTensor, output: keras.KerasTensor) -> keras.Model:
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pooled")(output))


def nested() -> keras.Model:
    """A model in a Sequential model in a Functional one; the dropouts would act at random if they were let."""
    image = keras.Input([8, 8, 3])
    residual = keras.Model(image, keras.layers.Add(name="sum")([image, conv("c")(conv("b")(image))]))
    inner = keras.Sequential([keras.Input([8, 8, 3]), conv("a"), keras.layers.Dropout(0.9, name="drop_a"), residual])
    outer = keras.Model(image, keras.layers.Dropout(0.9, name="drop_d")(conv("d")(inner(image))))
    return pooled(image, flatten(outer, image))


def two_branches() -> keras.Model:
    image = keras.Input([8, 8, 3])
    return keras.Model(image, keras.layers.Add()([conv("left")(image), conv("right")(image)]))


def called_again() -> keras.Model:
    image = keras.Input([8, 8, 3])
    again, relu = conv("again"), keras.layers.ReLU(name="relu")
    return pooled(image, relu(again(relu(conv("middle")(relu(again(image)))))))


def several_outputs() -> keras.Model:
    """One part of the first splitting is used, both parts of the second."""
    image = keras.Input([8, 8, 4])
    part, _ = keras.ops.split(conv("a", 4)(image), 2, axis=-1)
    one, two = keras.ops.split(conv("b", 4)(keras.ops.flip(part, axis=1)), 2, axis=-1)
    return pooled(image, conv("c")(one * two + 1.0))


HAND_MADE: dict[Any, list[str]] = {
    nested: ["a", "drop_a", "sum", "d", "drop_d"],
    two_branches: [],
    called_again: ["again", "relu", "middle", "relu/1", "again/1", "relu/2"],
    several_outputs: ["a", "split", "flip", "b", "multiply", "add", "c"],
}


def pixels(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, [2, *model.input.shape[1:]]).astype(np.float32)


def reached(model: keras.Model, start: keras.KerasTensor, without: keras.KerasTensor | None = None) -> set[int]:
    """The tensors to which something leads from `start`, other than through `without`."""
    users: dict[int, list[keras.KerasTensor]] = defaultdict(list)
    for node in nodes(model):
        for tensor in node.input_tensors:
            users[id(tensor)] += node.outputs
    found, to_visit = {id(without)}, [start]
    while to_visit:
        tensor = to_visit.pop()
        if id(tensor) not in found:
            found.add(id(tensor))
            to_visit += users[id(tensor)]
    return found


def separating(model: keras.Model) -> set[int]:
    """By brute force: the tensors without which nothing leads from the input to the output."""
    inner = [tensor for node in nodes(model) for tensor in node.outputs if tensor not in (model.input, model.output)]
    return {id(tensor) for tensor in inner if id(model.output) not in reached(model, model.input, tensor)}


def assert_split_is_whole(model: keras.Model, some: list[Cut]) -> None:
    images = pixels(model)
    wanted = model(images, training=False).numpy()
    assert wanted.std() > 0
    for cut in some:
        prefix, suffix = split(model, cut)
        assert suffix(prefix(images), training=False).numpy().tobytes() == wanted.tobytes(), cut.layer


@pytest.mark.parametrize("name", families(FAMILIES))
def test_cuts_of_a_family_are_those_of_brute_force_and_split_is_whole(name: str) -> None:
    base = network(name)
    found = cuts(base)
    assert len(found) >= 5
    assert {id(cut.tensor) for cut in found} == separating(base)
    assert_split_is_whole(base, [found[0], found[len(found) // 2], found[-1]])


@pytest.mark.parametrize("build", HAND_MADE, ids=lambda build: build.__name__)
def test_cuts_of_odd_networks_are_those_of_brute_force_and_split_is_whole(build: Any) -> None:
    reset_uids()
    model = build()
    found = cuts(model)
    assert [cut.layer for cut in found] == HAND_MADE[build]
    assert {id(cut.tensor) for cut in found} == separating(model)
    assert [cut_named(model, cut.layer).tensor for cut in found] == [cut.tensor for cut in found]
    assert_split_is_whole(model, found)


def test_a_network_is_the_same_after_it_was_split() -> None:
    model = called_again()
    before = model(pixels(model)).numpy()
    for cut in cuts(model) * 2:
        suffix = split(model, cut)[1]
        assert len(cuts(suffix)) == sum(other.work_below > cut.work_below for other in cuts(model))
        assert_split_is_whole(suffix, cuts(suffix))
    assert [cut.layer for cut in cuts(model)] == HAND_MADE[called_again]
    assert model(pixels(model)).numpy().tobytes() == before.tobytes()


@pytest.mark.parametrize("name", families(["convnexttiny", "efficientnetv2b0", "xception"]))
def test_a_cut_is_found_again_by_its_name(name: str) -> None:
    """Many of these names are automatic: `add_15`."""
    other = build_base(Model(backbone=name, image_size=LARGER.get(name, 32), weights="none"))
    for cut in cuts(network(name)):
        again = cut_named(other, cut.layer)
        assert (again.tensor.shape, again.work_below) == (cut.tensor.shape, cut.work_below)


@pytest.mark.parametrize("name", families(["resnet50", "mobilenetv2"]))
def test_no_cut_is_inside_a_residual(name: str) -> None:
    sums = {layer.name for layer in network(name).layers if isinstance(layer, keras.layers.Add)}
    blocks = {name.removesuffix("_add") for name in sums}
    inside = {cut.layer for cut in cuts(network(name)) if any(cut.layer.startswith(f"{block}_") for block in blocks)}
    assert sums <= inside <= sums | {f"{block}_out" for block in blocks}


@pytest.mark.parametrize("name", families(["efficientnet_lite0", "densenet121", "resnet50", "inceptionv3"]))
def test_legal_cuts_are_those_below_all_that_trains(name: str) -> None:
    base = network(name)
    convs = [layer.name for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    middle = UnfreezeFrom.model_validate({"from": convs[len(convs) // 2]})
    two = UnfreezeMatch(match=[convs[-1], convs[len(convs) // 3]])
    for rule in (UnfreezeBlocks(blocks=1), UnfreezeBlocks(blocks=3), middle, two):
        thawed = thaw(base, rule)
        trains = set().union(*(reached(base, node.outputs[0]) for node in nodes(base) if node.operation in thawed))
        wanted = [cut.layer for cut in cuts(base) if id(cut.tensor) not in trains]
        assert [cut.layer for cut in legal_cuts(base)] == wanted, rule


def test_one_low_layer_pushes_the_cut_down_and_where_nothing_trains_every_cut_is_legal() -> None:
    base = network("mobilenetv2")
    thaw(base, UnfreezeMatch(match=["block_15_*"]))
    assert legal_cuts(base)[-1].layer == "block_14_add"
    thaw(base, UnfreezeMatch(match=["block_15_*", "block_2_expand"]))
    assert legal_cuts(base)[-1].layer == "block_1_project_BN"
    freeze(base)
    assert legal_cuts(base) == cuts(base)


def test_a_layer_that_trains_trains_in_all_its_calls() -> None:
    model = called_again()
    for layer in model.layers:
        layer.trainable = layer.name == "middle"
    assert [cut.layer for cut in legal_cuts(model)] == ["again", "relu"]
    model.get_layer("again").trainable = True
    assert legal_cuts(model) == []


def test_the_cheapest_cut_is_a_narrow_tensor_below_a_wide_one() -> None:
    """The last block has no residual, so that its expanded tensor, six times as wide as its input, is a cut."""
    base = build_base(Model())
    thaw(base, UnfreezeFrom.model_validate({"from": "block15_depthwise_conv"}))
    legal = legal_cuts(base)
    cheapest = cheapest_cut(legal, bytes_per_value=2)
    assert (legal[-1].layer, legal[-1].values) == ("block15_expand_relu", 7 * 7 * 1152)
    assert (cheapest.layer, cheapest.values) == ("block14_add", 7 * 7 * 192)


def test_bytes_are_weighed_against_work() -> None:
    narrow = Cut("narrow", keras.KerasTensor([None, 10]), 0, 1_000_000)
    wide = Cut("wide", keras.KerasTensor([None, 12, 100]), 500_000, 500_000)
    assert cheapest_cut([narrow, wide], bytes_per_value=2) is narrow
    assert cheapest_cut([narrow, wide], bytes_per_value=1) is wide
    same = Cut("same", keras.KerasTensor([None, 10]), 0, 1_000_000)
    assert cheapest_cut([narrow, same], bytes_per_value=2) is same
    assert cheapest_cut([], bytes_per_value=2) is None


def test_work_is_multiply_adds_in_every_call() -> None:
    image = keras.Input([8, 8, 4])
    twice = keras.layers.Conv2D(4, 3, padding="same", groups=2, name="twice")
    x = keras.layers.BatchNormalization(name="norm")(twice(twice(image)))
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(x)
    x = keras.layers.SeparableConv2D(5, 3, name="separable")(x)
    model = keras.Model(image, keras.layers.Dense(7, name="dense")(keras.layers.Flatten(name="flat")(x)))
    works = [64 * 9 * 2 * 4, 64 * 9 * 2 * 4, 64 * 4, 16 * 9 * 4, 4 * (9 * 4 + 4 * 5), 4 * 5, 4 * 5 * 7]
    found = cuts(model)
    assert [cut.layer for cut in found] == ["twice", "twice/1", "norm", "depthwise", "separable", "flat"]
    assert [cut.work_below for cut in found] == [sum(works[: at + 1]) for at in range(6)]
    assert [cut.work_above for cut in found] == [sum(works[at + 1 :]) for at in range(6)]


@pytest.mark.parametrize("name", families(["efficientnet_lite0", "resnet50", "xception"]))
def test_training_the_suffix_trains_the_thawed_layers_of_the_whole(name: str) -> None:
    base = draw_weights(build_base(Model(backbone=name, image_size=LARGER.get(name, 32), weights="none")), 0)
    thawed = {layer.name for layer in thaw(base, UnfreezeBlocks(blocks=2))}
    prefix, suffix = split(base, legal_cuts(base)[-1])
    inside, whole = variables_by_path(suffix), variables_by_path(base)
    assert all(variable is whole[path] for path, variable in inside.items())
    assert {path.split("/")[0] for path, variable in inside.items() if variable.trainable} == thawed
    trainable = suffix.trainable_variables
    assert {id(variable) for variable in trainable} == {id(variable) for variable in base.trainable_variables}

    def gradients(model: keras.Model, inputs: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model(inputs, training=False))
        return [slope.numpy() for slope in tape.gradient(total, [variable.value for variable in trainable])]

    images = pixels(base)
    before, values = base(images, training=False).numpy(), prefix(images, training=False)
    for variable, slope, wanted in zip(trainable, gradients(suffix, values), gradients(base, images), strict=True):
        assert slope.any()
        np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-6 * abs(wanted).max())
        variable.assign_sub(0.1 * slope / abs(slope).max())
    after = base(images, training=False).numpy()
    assert suffix(values, training=False).numpy().tobytes() == after.tobytes() != before.tobytes()
