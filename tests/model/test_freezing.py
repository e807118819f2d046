from __future__ import annotations

import keras
import pytest

from job.config import Head, Model, UnfreezeAuto, UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch
from job.config.training import BlockByBlock
from job.errors import JobError
from job.model.backbones import build_base
from job.model.freezing import block_of_cut, block_sizes, depths, freeze, has_depthwise, thaw
from job.model.heads import build_head
from job.model.network import variables_by_path


@pytest.fixture(scope="module")
def vgg() -> keras.Model:
    return build_base(Model(backbone="vgg19", weights="none", image_size=32))


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return build_base(Model(image_size=32))


def trainable(model: keras.Model) -> set[str]:
    return {path.split("/")[0] for path, variable in variables_by_path(model).items() if variable.trainable}


def test_frozen_means_every_variable(lite0: keras.Model) -> None:
    freeze(lite0)
    assert trainable(lite0) == set()


def test_blocks_count_from_the_top_and_batch_norm_stays_frozen(lite0: keras.Model) -> None:
    thaw(lite0, UnfreezeBlocks(blocks=2))
    block14 = {"block14_expand_conv", "block14_depthwise_conv", "block14_project_conv"}
    block15 = {"block15_expand_conv", "block15_depthwise_conv", "block15_project_conv", "top_conv"}
    assert trainable(lite0) == block14 | block15
    assert has_depthwise(lite0)


def test_from_thaws_the_layer_and_all_above(vgg: keras.Model) -> None:
    thaw(vgg, UnfreezeFrom.model_validate({"from": "block5_conv3"}))
    assert trainable(vgg) == {"block5_conv3", "block5_conv4"}
    rows = {name: (parameters, open_) for name, _, parameters, open_ in block_sizes(vgg)}
    assert rows["block5"] == (4 * 2_359_808, 2 * 2_359_808)
    assert rows["block4"][1] == 0
    head = build_head(8, Head(hidden=[4]), classes=2, seed=0)
    assert block_sizes(vgg, head) == [*block_sizes(vgg), ("head", 3, 8 * 4 + 4 + 4 * 2 + 2, 46)]


def test_the_cut_is_in_one_of_the_blocks(vgg: keras.Model) -> None:
    thaw(vgg, UnfreezeBlocks(blocks=1))
    head = build_head(8, Head(hidden=[4]), classes=2, seed=0)
    names = [block.name for block in block_sizes(vgg, head)]
    assert [names[block_of_cut(vgg, cut) or 0] for cut in ("block4_pool", "block3_conv1/1")] == ["block4", "block3"]
    assert block_of_cut(vgg, None) is None


def test_match_takes_every_pattern(vgg: keras.Model) -> None:
    thaw(vgg, UnfreezeMatch(match=["block1_*", "*_conv4"]))
    assert trainable(vgg) == {"block1_conv1", "block1_conv2", "block3_conv4", "block4_conv4", "block5_conv4"}


def test_auto_may_come_to_its_deepest_block(vgg: keras.Model) -> None:
    assert depths(vgg, 2) == [1, 2]
    assert depths(vgg, 99) == [1, 2, 3, 4, 5]  # the stem of VGG holds no weights
    thaw(vgg, UnfreezeAuto(auto=BlockByBlock(max_blocks=2)))
    assert {name.partition("_")[0] for name in trainable(vgg)} == {"block4", "block5"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (UnfreezeBlocks(blocks=9), "phases.fine_tune.unfreeze.blocks: 9 of 6 blocks can't be thawed."),
        (
            UnfreezeFrom.model_validate({"from": "blok5_conv1"}),
            "phases.fine_tune.unfreeze.from: no layer 'blok5_conv1' in the backbone (nearest: 'block5_conv1').",
        ),
        (
            UnfreezeMatch(match=["block5_*", "blok4_conv1"]),
            "phases.fine_tune.unfreeze.match: 'blok4_conv1' matches no layer of the backbone (nearest: 'block4_conv1').",  # noqa: E501
        ),
        (
            UnfreezeMatch(match=["*_pool"]),
            "phases.fine_tune.unfreeze: match: ['*_pool'] holds no weights that could train.",
        ),
    ],
)
def test_a_rule_that_names_nothing_is_an_error(vgg: keras.Model, rule: object, message: str) -> None:
    with pytest.raises(JobError) as caught:
        thaw(vgg, rule)  # type: ignore[arg-type]
    assert str(caught.value) == message
