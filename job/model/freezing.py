"""Freezing: all layers are frozen at first, then a few top ones are thawed. Batch normalization never trains."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

import keras

from job.config import UnfreezeAuto, UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch, UnfreezeWords
from job.errors import JobError, nearest
from job.model.anatomy import BlockSize
from job.model.words import LAYER

Rule = UnfreezeBlocks | UnfreezeFrom | UnfreezeMatch | UnfreezeWords | UnfreezeAuto

BLOCK_NAMES = re.compile(
    r"^(?P<block>"
    r"block_?\d+[a-z]?(_\d+)?(?=_)"  # vgg, xception, efficientnet, mobilenetv2, inception-resnet, lite0
    r"|conv\d+_block\d+|pool\d+"  # resnet, densenet
    r"|conv_(dw|pw)_\d+|expanded_conv(_\d+)?"  # mobilenet, mobilenetv3
    r"|convnext_\w+?_stage_\d+_block_\d+|convnext_\w+?_downsampling_block_\d+"
    r")"
)
CLOSING = re.compile(r"^mixed\d+$|^mixed_\d[a-z]$|^normal_concat_\d+$|^reduction_concat.*$")
"""Layers that end a block where names of other layers do not name the block: inception, nasnet."""
FIRST = "stem"


@dataclass(frozen=True)
class Block:
    name: str
    layers: list[keras.layers.Layer]


def blocks(base: keras.Model) -> list[Block]:
    """The blocks of a network, from the bottom to the top.

    Blocks follow the layer names of the network's family. Without such names, each layer with weights is a block
    together with the weightless layers above it. Layers above the last named block belong to it.
    """
    layers = [layer for layer in base.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = _closing_names(layers) if any(CLOSING.match(layer.name) for layer in layers) else _own_names(layers)
    if not any(names):
        return _blocks_by_layer(layers)
    last = max(index for index, name in enumerate(names) if name)
    members_by_block: dict[str, list[keras.layers.Layer]] = {}
    current = FIRST
    for index, layer in enumerate(layers):
        current = names[min(index, last)] or current
        members_by_block.setdefault(current, []).append(layer)
    return [Block(name, members) for name, members in members_by_block.items()]


def freeze(model: keras.Model) -> None:
    """Freezes every layer of the model, and every layer inside these."""
    for layer in model._flatten_layers():
        layer.trainable = False


def thaw(base: keras.Model, rule: Rule) -> list[keras.layers.Layer]:
    """Makes the layers that the rule selects trainable, freezes all others of the base, and returns the former. For
    `auto`, these are all layers that it may thaw in the end.

    Raises JobError with the nearest name where the rule selects nothing.
    """
    chosen = _chosen(base, rule)
    freeze(base)
    thawed = [layer for layer in chosen if _can_train(layer)]
    if not thawed:
        raise JobError(f"phases.fine_tune.unfreeze: {_words(rule)} holds no weights that could train.")
    base.trainable = True  # a frozen model hides its layers' trainable variables
    for layer in base.layers:
        layer.trainable = layer in thawed
    return thawed


def depths(base: keras.Model, most: int) -> list[int]:
    """The numbers of top blocks to thaw, one after another, up to `most`; blocks without trainable weights add none."""
    top = blocks(base)[::-1][:most]
    return [depth for depth, block in enumerate(top, start=1) if any(map(_can_train, block.layers))]


def block_sizes(base: keras.Model, head: keras.Model | None = None) -> list[BlockSize]:
    """From the bottom to the top, the head last."""
    sizes = []
    for block in [*blocks(base), *([Block("head", head.layers[1:])] if head else [])]:
        variables = {id(v): v for layer in block.layers for v in layer.weights}.values()
        values = [(int(keras.ops.size(v)) if v.shape else 1, v.trainable) for v in variables]
        parameters, trains = sum(n for n, _ in values), sum(n for n, trainable in values if trainable)
        sizes.append(BlockSize(block.name, len(block.layers), parameters, trains))
    return sizes


def block_of_cut(base: keras.Model, cut: str | None) -> int | None:
    """The place of the block with the layer at the cut, counted from the bottom; None where there is no cut."""
    layer = cut.partition("/")[0] if cut else None
    holds = (place for place, block in enumerate(blocks(base)) if any(member.name == layer for member in block.layers))
    return next(holds, None)


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _can_train(layer: keras.layers.Layer) -> bool:
    return bool(layer.weights) and not is_batch_norm(layer)


def has_depthwise(model: keras.Model) -> bool:
    return any(isinstance(x, (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)) for x in model.layers)


def _chosen(base: keras.Model, rule: Rule) -> list[keras.layers.Layer]:
    names = [layer.name for layer in base.layers]
    all_blocks = blocks(base)
    if isinstance(rule, UnfreezeAuto):
        return [layer for block in all_blocks[-rule.auto.max_blocks :] for layer in block.layers]
    if isinstance(rule, UnfreezeBlocks):
        if rule.blocks > len(all_blocks):
            raise JobError(
                f"phases.fine_tune.unfreeze.blocks: {rule.blocks} of {len(all_blocks)} blocks can't be thawed."
            )
        return [layer for block in all_blocks[-rule.blocks :] for layer in block.layers]
    if isinstance(rule, UnfreezeFrom):
        if rule.from_ not in names:
            near = nearest(rule.from_, names)
            raise JobError(f"phases.fine_tune.unfreeze.from: no layer {rule.from_!r} in the backbone{near}.")
        return list(base.layers[names.index(rule.from_) :])
    if isinstance(rule, UnfreezeWords):  # which of its words train was decided when the layer was made
        return [layer for layer in base.layers if layer.name == LAYER]
    for pattern in rule.match:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = nearest(pattern.replace("*", ""), names)
            raise JobError(f"phases.fine_tune.unfreeze.match: {pattern!r} matches no layer of the backbone{near}.")
    return [layer for layer in base.layers if any(fnmatchcase(layer.name, pattern) for pattern in rule.match)]


def _words(rule: Rule) -> str:
    return ", ".join(f"{key}: {value}" for key, value in rule.model_dump(by_alias=True).items())


def _own_names(layers: list[keras.layers.Layer]) -> list[str]:
    matches = [BLOCK_NAMES.match(layer.name) for layer in layers]
    names = [match["block"] if match else "" for match in matches]
    return [re.sub(r"^conv_[dp]w_", "block_", name) for name in names]  # MobileNet's pairs are one block


def _closing_names(layers: list[keras.layers.Layer]) -> list[str]:
    """The name of each layer's block, which is the next closing layer above it."""
    names, following = [], ""
    for layer in reversed(layers):
        own = BLOCK_NAMES.match(layer.name)
        following = layer.name if CLOSING.match(layer.name) else following
        names.append(own["block"] if own else following)
    return names[::-1]


def _blocks_by_layer(layers: list[keras.layers.Layer]) -> list[Block]:
    by_layer = [Block(FIRST, [])]
    for layer in layers:
        if layer.weights and not is_batch_norm(layer):
            by_layer.append(Block(layer.name, []))
        by_layer[-1].layers.append(layer)
    return [block for block in by_layer if block.layers]
