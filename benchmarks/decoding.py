"""Decoding and resizing with TensorFlow (what the job does) against Pillow, one thread each, in turn; prints the ratio.

python benchmarks/decoding.py [images]
"""

from __future__ import annotations

import io
import statistics
import sys
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from job.data.decoding import decode_image


def main(images: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(images):
        buffer = io.BytesIO()
        smooth = Image.fromarray(random.integers(0, 256, (30, 30, 3)).astype(np.uint8)).resize((300, 300))
        smooth.save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    decode = tf.function(
        lambda image: decode_image(image, 224, "stretch"), input_signature=[tf.TensorSpec([], tf.string)]
    )
    decode(encoded[0])
    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        for image in encoded:
            decode(image)
        middle = time.perf_counter()
        for image in encoded:
            picture = Image.open(io.BytesIO(image)).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            np.asarray(picture)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    print(f"TensorFlow takes {statistics.median(ratios):.2f} times as long as Pillow ({images} images, median of 5)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
