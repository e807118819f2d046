from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from job.config import Augment
from job.config.jobfile import parse_job
from job.data.augment import DRAWS, _uniforms, augment_images, view_seeds
from job.errors import JobError

EVERYTHING = Augment(
    flip_horizontal=True, flip_vertical=True, rotate=30, shift=0.2, scale=0.3, brightness=0.2, contrast=0.5
)
EACH = [
    {"flip_horizontal": True},
    {"flip_vertical": True},
    {"rotate": 20},
    {"shift": 0.1},
    {"scale": 0.2},
    {"brightness": 0.3},
    {"contrast": 0.5},
]


def noise(examples: int, height: int = 23, width: int = 31) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (examples, height, width, 3), np.uint8)


def drawn(examples: int, inside: Any, height: int, width: int) -> np.ndarray:
    """Copies of a picture, white where `inside` (of the offsets x, y from the centre in pixels) is true."""
    y, x = np.mgrid[:height, :width].astype(float)
    picture = np.where(inside(x - (width - 1) / 2, y - (height - 1) / 2), 255, 0).astype(np.uint8)
    return np.repeat(np.repeat(picture[None, :, :, None], 3, axis=3), examples, axis=0)


def changed(images: np.ndarray, view: int = 1, **switches: Any) -> np.ndarray:
    return augment_images(images, view_seeds(np.arange(len(images)), view), Augment(**switches)).numpy()


def moments(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each image's white: the centre x, y in pixels, the area in pixels, the direction of its length in degrees."""
    weight = images[..., 0] / 255.0
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    area = weight.sum((1, 2))
    centre_x, centre_y = (weight * x).sum((1, 2)) / area, (weight * y).sum((1, 2)) / area
    dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
    xx, yy, xy = ((weight * product).sum((1, 2)) for product in (dx * dx, dy * dy, dx * dy))
    return centre_x, centre_y, area, np.rad2deg(np.arctan2(2 * xy, xx - yy) / 2)


def test_quarter_turns_are_exact_and_equally_frequent() -> None:
    images = noise(400, 24, 24)
    turned = changed(images, quarter_turns=True)
    turns = np.array([[(np.rot90(image, k) == other).all() for k in range(4)] for image, other in zip(images, turned)])  # noqa: B905
    assert (turns.sum(axis=1) == 1).all()
    assert (np.abs(turns.sum(axis=0) - 100) < 35).all()
    both = changed(images, quarter_turns=True, flip_horizontal=True)
    flipped = changed(images, flip_horizontal=True)
    assert all((np.rot90(image, k) == other).all() for image, other, k in zip(flipped, both, turns.argmax(axis=1)))  # noqa: B905


@pytest.mark.parametrize("shape", [(101, 97), (32, 32), (1, 5)])
def test_a_row_depends_on_its_image_and_seed_alone(shape: tuple[int, int]) -> None:
    images, seeds = noise(67, *shape), view_seeds(np.arange(67), 3)
    whole = augment_images(images, seeds, EVERYTHING).numpy()
    assert (whole.shape, whole.dtype) == (images.shape, np.uint8)
    order = np.random.default_rng(1).permutation(67)
    assert (augment_images(images[order], seeds[order], EVERYTHING).numpy() == whole[order]).all()
    for size in (1, 4, 7):
        parts = [slice(start, start + size) for start in range(0, 67, size)]
        split = [augment_images(images[part], seeds[part], EVERYTHING).numpy() for part in parts]
        assert (np.concatenate(split) == whole).all()


def test_graphs_and_pipelines_give_the_bytes_of_eager_calls() -> None:
    images, seeds = noise(16), view_seeds(np.arange(16), 1)
    eager = augment_images(images, seeds, EVERYTHING).numpy()
    assert (augment_images(images, seeds, EVERYTHING).numpy() == eager).all()
    for shape in ([16, 23, 31, 3], [None, 23, 31, 3], [None, None, None, 3]):
        signature = [tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([shape[0], 2], tf.int32)]
        graph = tf.function(lambda images, seeds: augment_images(images, seeds, EVERYTHING), input_signature=signature)
        assert graph.get_concrete_function().output_shapes.as_list() == shape
        assert (graph(images, seeds).numpy() == eager).all()
    batches = tf.data.Dataset.from_tensor_slices((images, seeds)).batch(5)
    mapped = batches.map(lambda images, seeds: augment_images(images, seeds, EVERYTHING), num_parallel_calls=2)
    assert (np.concatenate([batch.numpy() for batch in mapped]) == eager).all()


def test_no_images_give_no_images() -> None:
    assert changed(noise(0), rotate=10, contrast=0.1, flip_vertical=True).shape == (0, 23, 31, 3)


def test_nothing_switched_on_changes_nothing() -> None:
    images = noise(4)
    assert not Augment().active
    assert (np.asarray(augment_images(images, view_seeds(np.arange(4), 1), Augment())) == images).all()


@pytest.mark.parametrize("switch", EACH, ids=lambda switch: next(iter(switch)))
def test_each_switch_changes_images_and_differs_between_views(switch: dict[str, Any]) -> None:
    assert Augment(**switch).active
    images = noise(32)
    first, second = changed(images, 1, **switch), changed(images, 2, **switch)
    assert (first != images).any()
    assert (first != second).any()


def test_flips_keep_every_pixel_and_come_half_of_the_time() -> None:
    images = noise(2000, 3, 4)
    flipped = changed(images, flip_horizontal=True, flip_vertical=True)
    forms = np.stack([images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]])
    same = (forms == flipped).all((2, 3, 4))
    assert (same.sum(0) == 1).all()
    assert (np.abs(same.mean(1) - 0.25) < 0.04).all()
    across = changed(images, flip_horizontal=True)
    assert ((across == images[:, :, ::-1]).all((1, 2, 3)) == same[1] | same[3]).all()


def test_switching_one_change_on_leaves_the_others_as_they_were() -> None:
    grey = np.full((64, 9, 9, 3), 128, np.uint8)
    all_but_brightness = EVERYTHING.model_dump() | {"brightness": 0.0}
    assert (changed(grey, **all_but_brightness) == grey).all()
    assert (changed(grey, **EVERYTHING.model_dump()) == changed(grey, brightness=0.2)).all()
    left = drawn(64, lambda x, y: (x < -4) & (x > -9) & (abs(y) < 3), 31, 31)
    flipped = moments(changed(left, flip_horizontal=True))[0] > 15
    also_moved = moments(changed(left, flip_horizontal=True, rotate=10, scale=0.1, contrast=0.3))[0] > 15
    assert 0 < flipped.sum() < 64
    assert (flipped == also_moved).all()


def test_rotation_turns_a_bar_within_its_bounds_and_leaves_a_disc() -> None:
    bars = drawn(64, lambda x, y: (abs(x) < 15) & (abs(y) < 3), 41, 61)
    x, y, area, direction = moments(changed(bars, rotate=30))
    assert (np.abs(direction) < 31).all()
    assert direction.min() < -20
    assert direction.max() > 20
    assert np.abs(np.stack([x - 30, y - 20])).max() < 0.1
    assert np.abs(area / moments(bars)[2] - 1).max() < 0.02
    discs = drawn(64, lambda x, y: x * x + y * y < 144, 41, 61)
    certain = drawn(64, lambda x, y: (np.hypot(x, y) < 20) & (abs(np.hypot(x, y) - 12) > 2), 41, 61) > 0
    assert (changed(discs, rotate=180)[certain] == discs[certain]).all()


def test_a_shift_is_a_fraction_of_each_side() -> None:
    discs = drawn(200, lambda x, y: x * x + y * y < 16, 40, 80)
    x, y, area, _ = moments(changed(discs, shift=0.25))
    right, down = x - 39.5, y - 19.5
    assert 18 < np.abs(right).max() < 20.01
    assert 9 < np.abs(down).max() < 10.01
    assert abs(np.corrcoef(right, down)[0, 1]) < 0.2
    assert np.abs(area / moments(discs)[2] - 1).max() < 0.02


def test_scale_zooms_about_the_centre() -> None:
    discs = drawn(200, lambda x, y: x * x + y * y < 100, 41, 51)
    x, y, area, _ = moments(changed(discs, scale=0.3))
    zoom = np.sqrt(area / moments(discs)[2])
    assert 0.69 < zoom.min() < 0.73
    assert 1.27 < zoom.max() < 1.31
    assert np.abs(np.stack([x - 25, y - 20])).max() < 0.1


def test_a_bar_that_is_turned_and_zoomed_keeps_its_direction_and_shape() -> None:
    bars = drawn(64, lambda x, y: (abs(x) < 10) & (abs(y) < 3), 101, 111)
    turned, zoomed = moments(changed(bars, rotate=40)), moments(changed(bars, scale=0.2))
    both = moments(changed(bars, rotate=40, scale=0.2))
    assert np.abs(both[3] - turned[3]).max() < 2
    assert np.abs(both[2] / zoomed[2] - 1).max() < 0.03


def test_what_was_outside_mirrors_the_inside() -> None:
    white = np.full((64, 20, 30, 3), 255, np.uint8)
    assert (changed(white, rotate=180, shift=0.9, scale=0.9) == 255).all()


def test_brightness_adds_one_value_and_clips() -> None:
    added = changed(np.full((500, 2, 2, 3), 100, np.uint8), brightness=0.2).astype(int) - 100
    assert (added == added[:, :1, :1, :1]).all()
    assert -51 <= added.min() < -49
    assert 49 < added.max() <= 51
    clipped = changed(np.full((500, 1, 1, 3), 250, np.uint8), brightness=1.0)
    assert (clipped == 255).mean() > 0.4
    assert clipped.min() < 5


def test_contrast_stretches_about_the_mean_and_clips() -> None:
    halves = np.full((500, 2, 4, 3), 60, np.uint8)
    halves[:, :, 2:] = 140
    dark, bright = (changed(halves, contrast=0.5)[:, 0, column, 0].astype(int) for column in (0, 3))
    assert (dark + bright == 200).all()
    assert 20 <= (bright - 100).min() < 22
    assert 58 < (bright - 100).max() <= 60
    halves[:, :, :2], halves[:, :, 2:] = 0, 255
    assert changed(halves, contrast=0.9)[:, 0].min() == 0


def test_random_numbers_are_those_of_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    seeds = np.array([1234567], np.uint64).view(np.int32).reshape(1, 2)
    assert _uniforms(seeds, 4).numpy()[0].tolist() == [(number >> 40) / 2**24 for number in published]


def test_seeds_of_sequential_ids_and_views_are_uniform_and_unrelated() -> None:
    ids = np.arange(2**16)
    first, second = (_uniforms(view_seeds(ids, view), len(DRAWS)).numpy() for view in (1, 2))
    for column in (*first.T, *second.T):
        counts = np.histogram(column, 64, (0, 1))[0]
        assert ((counts - 1024) ** 2 / 1024).sum() < 63 + 5 * 11.2
    columns = np.concatenate([first[:-1], second[:-1], first[1:]], axis=1)
    related = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(related).max() < 5 / 2**8


def test_view_seeds_take_the_whole_range_and_never_change() -> None:
    ids = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    seeds = np.concatenate([view_seeds(ids, view) for view in (0, 1, 2**31, 2**32, 2**63 - 1, 2**63)])
    assert (seeds.shape, seeds.dtype) == ((24, 2), np.int32)
    assert len(np.unique(seeds, axis=0)) == 24
    assert (view_seeds(ids.view(np.int64), 5) == view_seeds(ids, 5)).all()
    assert view_seeds(np.array([1]), 1).tolist() == [[-2098025913, 1599417572]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.rotate=200", "augment.rotate: input should be less than or equal to 180, got 200."),
        ("augment.rotate=-1", "augment.rotate: input should be greater than or equal to 0, got -1."),
        ("augment.shift=1", "augment.shift: input should be less than 1, got 1."),
        ("augment.scale=1", "augment.scale: input should be less than 1, got 1."),
        ("augment.contrast=1", "augment.contrast: input should be less than 1, got 1."),
        ("augment.brightness=1.5", "augment.brightness: input should be less than or equal to 1, got 1.5."),
        ("augment.shift=.nan", "augment.shift: "),
        ("augment.rotat=5", "augment.rotat: unknown key (nearest: 'rotate')."),
    ],
)
def test_a_switch_out_of_bounds_is_refused(override: str, message: str) -> None:
    job = "{name: cells, data: {source: s3://bucket/cells/}, store: s3://bucket/thaw/}"
    assert parse_job(job, ["augment.rotate=180", "augment.brightness=1"]).augment.active
    with pytest.raises(JobError) as caught:
        parse_job(job, [override])
    assert f"job file: {message}" in str(caught.value)
