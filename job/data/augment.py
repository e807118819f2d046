"""Random changes of training images, a pure function of the image and its seed.

A row's bytes must not depend on its batch, so sums are of whole numbers and sines come from a table: TensorFlow may
round float sums and transcendental functions differently from one length of a tensor to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from job.config import Augment

if TYPE_CHECKING:
    import tensorflow as tf

GOLDEN = 0x9E3779B97F4A7C15
"""The increment of SplitMix64: 2**64 divided by the golden ratio, odd."""
DRAWS = ("horizontal", "vertical", "angle", "right", "down", "zoom", "contrast", "brightness", "turns")
"""The use of each random number of an image, in a fixed order: switching one change on alters no other."""
ANGLES = 4096
"""Steps of an angle: at most 0.09 degrees each."""


def augment_images(images: tf.Tensor, seeds: tf.Tensor, augment: Augment) -> tf.Tensor:
    """Changes `images` uint8 [n, h, w, 3] as `seeds` int32 [n, 2] say; returns uint8 [n, h, w, 3].

    Row i depends on images[i], seeds[i] and `augment` alone, to the bit; usable inside a tf.function. Runs on the CPU:
    a GPU would round differently.
    """
    import tensorflow as tf

    if not augment.active:
        return images
    with tf.device("CPU"):
        draws = dict(zip(DRAWS, tf.unstack(_uniforms(seeds, len(DRAWS)), axis=1), strict=True))
        for on, axis, name in ((augment.flip_horizontal, 2, "horizontal"), (augment.flip_vertical, 1, "vertical")):
            if on:
                images = tf.raw_ops.Select(condition=draws[name] < 0.5, x=tf.reverse(images, [axis]), y=images)
        if augment.quarter_turns:
            images = _turn(images, tf.cast(draws["turns"] * 4, tf.int32))
        moves = augment.rotate or augment.shift or augment.scale
        stretches = augment.contrast or augment.brightness
        if not (moves or stretches):
            return images
        values = tf.cast(images, tf.float32)
        if moves:
            values = _move(values, draws, augment)
        if stretches:
            gain = 1.0 + augment.contrast * _signed(draws["contrast"])
            bias = _means(images) * (1.0 - gain) + 255.0 * augment.brightness * _signed(draws["brightness"])
            values = values * gain[:, None, None, None] + bias[:, None, None, None]
        return tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.uint8)


def _turn(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Turns each of `images`, uint8 [n, h, h, 3], counterclockwise by its quarter turns, int32 [n] of 0 to 3."""
    import tensorflow as tf

    half = tf.raw_ops.Select(condition=turns >= 2, x=tf.reverse(images, [1, 2]), y=images)
    quarter = tf.ensure_shape(tf.reverse(tf.transpose(half, [0, 2, 1, 3]), [1]), half.shape)
    return tf.raw_ops.Select(condition=turns % 2 == 1, x=quarter, y=half)


def view_seeds(ids: np.ndarray, view: int) -> np.ndarray:
    """Seeds int32 [n, 2] of a view (0 to 2**63) of the examples `ids` uint64 or int64 [n].

    Each is number `view` of the SplitMix64 whose state is the mixed id.
    """
    states = _mix(ids.astype(np.uint64), np.right_shift, np.bitwise_xor)
    mixed = _mix(states + np.uint64((view + 1) * GOLDEN % 2**64), np.right_shift, np.bitwise_xor)
    return mixed.view(np.int32).reshape(-1, 2)


def _uniforms(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """The first `count` numbers of the SplitMix64 of each of `seeds` int32 [n, 2]: float32 [n, count] in [0, 1)."""
    import tensorflow as tf

    states = tf.bitcast(seeds, tf.uint64)[:, None]
    steps = np.array([(k + 1) * GOLDEN % 2**64 for k in range(count)], np.uint64)
    mixed = _mix(states + steps, tf.bitwise.right_shift, tf.bitwise.bitwise_xor)
    return tf.cast(tf.bitwise.right_shift(mixed, 40), tf.float32) * 2.0**-24


def _mix(state: Any, shift: Callable[..., Any], xor: Callable[..., Any]) -> Any:
    """The output function of SplitMix64 on uint64 (Steele, Lea, Flood 2014; constants of Vigna's splitmix64.c)."""
    state = xor(state, shift(state, 30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = xor(state, shift(state, 27)) * np.uint64(0x94D049BB133111EB)
    return xor(state, shift(state, 31))


def _signed(uniform: tf.Tensor) -> tf.Tensor:
    return uniform * 2.0 - 1.0


def _means(images: tf.Tensor) -> tf.Tensor:
    """The mean of all values of each of `images` uint8 [n, h, w, 3]: float32 [n], from exact sums."""
    import tensorflow as tf

    rows = tf.reduce_sum(tf.cast(images, tf.int32), axis=[2, 3])
    total = tf.reduce_sum(tf.cast(rows, tf.int64), axis=1)
    values = tf.reduce_prod(tf.shape(images, tf.int64)[1:])
    return tf.cast(tf.cast(total, tf.float64) / tf.cast(values, tf.float64), tf.float32)


def _move(values: tf.Tensor, draws: dict[str, tf.Tensor], augment: Augment) -> tf.Tensor:
    """Rotates, zooms and shifts `values` float32 [n, h, w, 3] in one bilinear step, mirrored at the edges."""
    import tensorflow as tf

    size = tf.shape(values)[1:3]
    height, width = tf.unstack(tf.cast(size, tf.float32))
    angles = np.deg2rad(augment.rotate * ((2 * np.arange(ANGLES) + 1) / ANGLES - 1))
    step = tf.cast(draws["angle"] * ANGLES, tf.int32)
    zoom = 1.0 + augment.scale * _signed(draws["zoom"])
    cos = tf.gather(np.cos(angles).astype(np.float32), step) / zoom
    sin = tf.gather(np.sin(angles).astype(np.float32), step) / zoom
    x, y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    right = x + augment.shift * width * _signed(draws["right"])
    down = y + augment.shift * height * _signed(draws["down"])
    # The matrix maps a pixel of the output to the pixel of the input that it shows.
    matrix = [cos, -sin, x - cos * right + sin * down, sin, cos, y - sin * right - cos * down]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=values,
        transforms=tf.stack([*matrix, tf.zeros_like(cos), tf.zeros_like(cos)], axis=1),
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return tf.ensure_shape(moved, values.shape)
