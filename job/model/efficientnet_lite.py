"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6 (Google, 2020).

Larger variants have more channels and more blocks, except in the two outer convolutions and in stages of one block.
Layers are named `stem_conv`, `block0_depthwise_conv` … `block15_project_bn` (Lite0's last), `top_conv`, `top_bn`.
"""

from __future__ import annotations

import math

import keras
from keras import layers

from job.config import LITE

STAGES = (
    (1, 16, 1, 3, 1),
    (2, 24, 6, 3, 2),
    (2, 40, 6, 5, 2),
    (3, 80, 6, 3, 2),
    (3, 112, 6, 5, 1),
    (4, 192, 6, 5, 2),
    (1, 320, 6, 3, 1),
)
"""Repeats, output channels, expansion, kernel, stride of the first block."""
SCALES = dict(zip(LITE, ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2)), strict=True))
"""The factors of the channels and of the repeats."""
EPSILON = 1e-3


def features(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """The features of the network of this name: preprocessed float32 [n, S, S, 3] -> float32 [n, S/32, S/32, 1280]."""
    width, depth = SCALES[name]
    x = _conv_bn(x, 32, 3, stride=2, conv="stem_conv", norm="stem_bn")
    index, channels = 0, 32
    for repeats, out, expansion, kernel, stride in STAGES:
        out = _scaled(out, width)
        for repeat in range(1 if repeats == 1 else math.ceil(repeats * depth)):
            x = _block(
                x,
                channels,
                out,
                expansion=expansion,
                kernel=kernel,
                stride=stride if repeat == 0 else 1,
                name=f"block{index}",
            )
            index, channels = index + 1, out
    return _conv_bn(x, 1280, 1, stride=1, conv="top_conv", norm="top_bn")


def torch_names(path: str) -> tuple[str, str]:
    """The name that a variable of this network has in the PyTorch file, and its kind: conv, depthwise or vector."""
    layer, variable = path.split("/")
    vectors = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    fixed = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if layer in fixed:
        module = fixed[layer]
    else:
        block, _, part = layer.partition("_")
        index = int(block.removeprefix("block"))
        norms = ["depthwise_bn", "project_bn"] if index == 0 else ["expand_bn", "depthwise_bn", "project_bn"]
        first = 1 if index == 0 else 0  # block 0 does not expand, and the file counts from its expansion
        name = f"_bn{norms.index(part) + first}" if part in norms else f"_{part}"
        module = f"_blocks.{index}.{name}"
    if variable in vectors:
        return f"{module}.{vectors[variable]}", "vector"
    return f"{module}.weight", "depthwise" if layer.endswith("depthwise_conv") else "conv"


def _scaled(channels: int, width: float) -> int:
    """The scaled number of channels, rounded to the nearest multiple of 8."""
    return int(channels * width + 4) // 8 * 8


def _block(
    x: keras.KerasTensor, channels: int, out: int, *, expansion: int, kernel: int, stride: int, name: str
) -> keras.KerasTensor:
    """An inverted residual (MobileNetV2, Sandler et al. 2018)."""
    shortcut = x
    if expansion != 1:
        x = _conv_bn(x, channels * expansion, 1, stride=1, conv=f"{name}_expand_conv", norm=f"{name}_expand_bn")
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(out, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_bn")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x]) if stride == 1 and channels == out else x


def _conv_bn(x: keras.KerasTensor, out: int, kernel: int, *, stride: int, conv: str, norm: str) -> keras.KerasTensor:
    x = layers.Conv2D(out, kernel, stride, "same", use_bias=False, name=conv)(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=norm)(x)
    return layers.ReLU(6.0, name=norm.replace("_bn", "_relu"))(x)
