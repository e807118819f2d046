"""Decodes the bytes of a picture to the network's pixels, with the same TensorFlow operations in training and in the
exported model. Wherever Thaw itself decodes, `job.data.pictures.plain` comes first: it passes on only bytes that these
operations decode correctly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# fmt: off
EXTENSIONS = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "mpo", "png", "apng", "bmp", "dib", "gif", "webp", "tif", "tiff",
    "avif", "avifs", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "pbm", "pgm", "ppm", "pnm",
))
"""The extensions of pictures that can be read, in lower case, without the dot."""
UNREADABLE = frozenset((
    "heic", "heif", "hif", "jxl", "jxr", "svg", "svgz", "psd", "psb", "xcf", "ico", "icns", "tga", "pcx", "eps", "dcm",
    "dicom", "exr", "hdr", "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "raf", "rw2", "pef",
    "raw",
))
# fmt: on
"""The extensions of pictures that can't be read. They become rejects with a reason; other files are only left out."""
DECODING = 3
"""The version of decoding, part of the key of stored pixels: raise it when a picture becomes other pixels."""
BACKGROUND = 255
"""White: the background of transparent pictures."""
CROP = 0.875
"""224 / 256: the central part of the short side that ImageNet's recipe keeps."""
HEAD = 4096
"""Bytes at the start of a file that are searched for EXIF's orientation and a PNG's transparency."""
EXIF, TRANSPARENCY = b"Exif\0\0", b"tRNS"
ENTRIES = 64
"""Tags of EXIF that are looked at."""

Range = tuple[float, float]


def decode_image(encoded: tf.Tensor, size: int, resize: str, *, value_range: Range | None = None) -> tf.Tensor:
    """Decodes a scalar string tensor to RGB, uint8 [size, size, 3]; usable inside a tf.function.

    `stretch` resizes the whole picture, `crop` the central square; bicubic, antialiased, rounded to whole values.
    JPEG is turned as its EXIF says. PNG is laid on white; its values of 16 bits are scaled from `value_range` (without
    one, their upper 8 bits are taken). tf.io.decode_image decodes other formats, and the first frame of an animation.
    Raises tf.errors.InvalidArgumentError.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):  # its small steps would each be sent to a GPU
        return _decoded(encoded, size, resize, value_range=value_range)


def _decoded(encoded: tf.Tensor, size: int, resize: str, *, value_range: Range | None) -> tf.Tensor:
    import tensorflow as tf

    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=HEAD)
    image, orientation = tf.cond(
        _begins(head, b"\xff\xd8\xff"),
        lambda: (tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"), _orientation(head)),
        lambda: (_no_jpeg(encoded, head, value_range), 1),
    )
    image.set_shape([None, None, 3])
    if resize == "crop":
        image = _cropped(image, orientation)
    resized = tf.image.resize(image[tf.newaxis], (size, size), method="bicubic", antialias=True)[0]
    seen = tf.cond(orientation > 1, lambda: _turned(resized, orientation), lambda: resized)
    return tf.cast(tf.clip_by_value(tf.round(seen), 0.0, 255.0), tf.uint8)


def _no_jpeg(encoded: tf.Tensor, head: tf.Tensor, value_range: Range | None) -> tf.Tensor:
    import tensorflow as tf

    depth, colour = head[24], head[25]
    special = (colour == 4) | (colour == 6) | (_find(head, TRANSPARENCY) < HEAD)
    if value_range:
        special |= depth == 16
    return tf.cond(
        _begins(head, b"\x89PNG") & special,
        lambda: _png(encoded, depth, value_range),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _png(encoded: tf.Tensor, depth: tf.Tensor, value_range: Range | None) -> tf.Tensor:
    """The pixels of a PNG with transparency, or with values to be scaled."""
    import tensorflow as tf

    if value_range is None:
        values = tf.cast(tf.io.decode_png(encoded, channels=4), tf.uint16)
        colours, alpha = values[:, :, :3], values[:, :, 3:]
    else:  # values of 8 bits come times 257
        wide = tf.cast(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16), tf.float32)
        low, high = (tf.where(depth == 16, float(value_range[end]), whole) for end, whole in enumerate((0.0, 65535.0)))
        scaled = tf.clip_by_value((wide[:, :, :3] - low) * (255.0 / (high - low)), 0.0, 255.0)
        colours, alpha = tf.cast(tf.round(scaled), tf.uint16), tf.cast(tf.round(wide[:, :, 3:] / 257.0), tf.uint16)
    return tf.cast((colours * alpha + BACKGROUND * (255 - alpha) + 127) // 255, tf.uint8)


def _cropped(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The central square of the picture as a viewer shows it. Where a side is odd, the square depends on the turn."""
    import tensorflow as tf

    upside_down, mirrored, _ = _flips(orientation)
    shape = tf.shape(image)
    side = tf.cast(tf.round(tf.cast(tf.minimum(shape[0], shape[1]), tf.float32) * CROP), tf.int32)
    side = tf.maximum(side, 1)
    top = (shape[0] - side + tf.cast(upside_down, tf.int32)) // 2
    left = (shape[1] - side + tf.cast(mirrored, tf.int32)) // 2
    return tf.image.crop_to_bounding_box(image, top, left, side, side)


def _turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a square picture as its EXIF orientation says."""
    import tensorflow as tf

    upside_down, mirrored, transposed = _flips(orientation)
    places = np.arange(pixels.shape[0])
    for axis, flipped in enumerate((upside_down, mirrored)):  # a slice with [::-1] takes ten times as long
        pixels = tf.gather(pixels, tf.where(flipped, places[::-1], places), axis=axis)
    return tf.cond(transposed, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)


def _flips(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether EXIF's orientation, 1 to 8, reverses the rows, reverses the columns, and then exchanges the two."""
    import tensorflow as tf

    upside_down, mirrored, transposed = (
        tf.reduce_any(orientation == tf.constant(ones)) for ones in ([3, 4, 6, 7], [2, 3, 7, 8], [5, 6, 7, 8])
    )
    return upside_down, mirrored, transposed


def _orientation(head: tf.Tensor) -> tf.Tensor:
    """EXIF's orientation, 1 to 8; 1 where `head` has no EXIF."""
    import tensorflow as tf

    start = _find(head, EXIF) + len(EXIF)
    return tf.cond(start < HEAD, lambda: _tag(tf.cast(head, tf.int32), start), lambda: 1)


def _tag(head: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of a TIFF that begins at `start`; 1 where it has none."""
    import tensorflow as tf

    big = head[start] == ord("M")

    def number(at: tf.Tensor, length: int) -> tf.Tensor:
        weights = 256 ** np.arange(length, dtype=np.int32)
        parts = tf.gather(head, tf.clip_by_value(tf.expand_dims(at, -1) + np.arange(length), 0, HEAD - 1))
        return tf.reduce_sum(parts * tf.where(big, weights[::-1], weights), -1)

    directory = start + number(start + 4, 4)
    places = directory + 2 + 12 * np.arange(ENTRIES)
    fits = (number(places, 2) == 0x0112) & (np.arange(ENTRIES) < number(directory, 2)) & (number(start + 2, 2) == 42)
    orientation = tf.reduce_max(tf.where(fits, number(places + 8, 2), 1))
    return tf.where(orientation <= 8, orientation, 1)


def _begins(head: tf.Tensor, signature: bytes) -> tf.Tensor:
    import tensorflow as tf

    return tf.reduce_all(head[: len(signature)] == list(signature))


def _find(head: tf.Tensor, pattern: bytes) -> tf.Tensor:
    """The first place of `pattern` in `head`; HEAD where it is not there."""
    import tensorflow as tf

    last = HEAD - len(pattern) + 1
    there = tf.reduce_all([head[place : place + last] == value for place, value in enumerate(pattern)], axis=0)
    return tf.reduce_min(tf.where(there, tf.range(last), HEAD))
