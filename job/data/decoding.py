"""From an object's bytes to pixels: the same TensorFlow operations in training and in the exported model."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    import tensorflow as tf

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
EXTENSIONS = frozenset(
    "jpg jpeg jpe jfif pjpeg pjp mpo png apng bmp dib gif webp tif tiff avif avifs "
    "jp2 j2k j2c jpc jpf jpx pbm pgm ppm pnm".split()
)
"""In lower case, without the dot: what files of pictures that can be read are called."""
UNREADABLE = frozenset(
    "heic heif hif jxl jxr svg svgz psd psb xcf ico icns tga pcx eps dcm dicom exr hdr "
    "dng cr2 cr3 crw nef nrw arw srf sr2 orf raf rw2 pef raw".split()
)
"""The same of pictures that can't: rejects that say what they are, rather than what is left out without a word."""
CROP = 0.875
"""224 / 256: the central part of the short side that ImageNet's recipe keeps."""


def inspect_image(encoded: bytes, max_pixels: int) -> str | None:
    """Why an object can't be an image, read from its header alone; None where it can be decoded."""
    if not encoded:
        return "empty object"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded)) as image:
                width, height, form = image.width, image.height, image.format
    except UnidentifiedImageError:
        return "not an image"
    except Image.DecompressionBombError:
        return f"more than data.max_pixels ({max_pixels}) pixels"
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        return f"broken image: {error}"
    if form not in FORMATS:
        return f"format {form} is not supported (use {', '.join(FORMATS)})"
    if width * height > max_pixels:
        return f"{width}×{height} is more than data.max_pixels ({max_pixels})"
    return None


def decode_image(encoded: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    """RGB uint8 [size, size, 3] of a scalar string tensor; usable inside a tf.function.

    `stretch` resizes the whole picture, `crop` the central square; bicubic, antialiased, rounded to whole values.
    An animation gives its first frame; EXIF orientation is ignored. Raises tf.errors.InvalidArgumentError.
    """
    import tensorflow as tf

    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    if resize == "crop":
        shape = tf.shape(image)
        side = tf.cast(tf.round(tf.cast(tf.minimum(shape[0], shape[1]), tf.float32) * CROP), tf.int32)
        side = tf.maximum(side, 1)
        image = tf.image.crop_to_bounding_box(image, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side)
    resized = tf.image.resize(image[tf.newaxis], (size, size), method="bicubic", antialias=True)[0]
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
