"""What decoding costs, by the kind of picture: milliseconds of one processor for each, on one thread.

python benchmarks/decoding.py [--rounds 7]

`before` is what the job did until its decoding 2: Pillow opens the header, tf.io.decode_image decodes, whatever that
makes of it. `now` is `plain` and `decode_image`. Both are done in groups of 8 and resize to 224 pixels. `Pillow` is
what decoding with Pillow would take, with the same resizing. The sides take turns; printed are the least of the rounds.
Then: how far the pixels of a JPEG are from Pillow's, of 256 steps.

The photographs are of scikit-learn and, grey and 300 pixels wide, of the demo.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

from job.data.forms import image_form

SIZE, GROUP, MOST = 224, 8, 50_000_000
FORM = image_form(SIZE, "stretch", MOST)


def main(rounds: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    before, now = grouped(tensorflow_alone), grouped(FORM.decode)
    sides: dict[str, Callable[[list[bytes]], object]] = {
        "before": lambda group: ([opened(one) for one in group], before(group)),
        "now": lambda group: now([FORM.plain(one) for one in group]),
        "Pillow": lambda group: [resized(by_pillow(one)) for one in group],
    }
    for kind, pictures in kinds().items():
        took = {name: least(side, pictures, rounds) for name, side in sides.items()}
        told = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in took.items())
        print(f"{kind} ({np.mean([len(one) for one in pictures]) / 1024:.0f} KiB): {told} ms", flush=True)
    photographs = kinds()["JPEG 400 × 300"]
    wanted = np.stack([by_pillow(one) for one in photographs]).astype(int)
    for how in ("", "INTEGER_ACCURATE"):
        got = np.stack([tf.io.decode_jpeg(one, channels=3, dct_method=how).numpy() for one in photographs])
        apart = np.abs(got - wanted)
        told = f"{(apart > 0).mean():.1%} of values are not Pillow's, by {apart.max()} at most"
        print(f"JPEG, dct_method={how!r}: {told}")


def kinds() -> dict[str, list[bytes]]:
    import elpv_dataset
    import sklearn

    china = Image.open(Path(sklearn.__file__).parent / "datasets/images/china.jpg").convert("RGB")
    china.info.clear()
    parts = [china.crop((at, at, at + 400, at + 300)) for at in range(0, 120, 3)]
    large = china.resize((4000, 3000), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "JPEG 400 × 300": [saved(part, "JPEG", quality=83) for part in parts],
        "grey PNG 300 × 300": [file.read_bytes() for file in demo(Path(elpv_dataset.__file__).parent)],
        "PNG 400 × 300": [saved(part, "PNG") for part in parts],
        "JPEG 12 Mpx": [saved(large, "JPEG", quality=90)] * 2,
        "JPEG 12 Mpx, turned": [saved(large, "JPEG", quality=90, exif=turned)] * 2,
        "WebP 400 × 300": [saved(part, "WEBP") for part in parts],
        "BMP 400 × 300": [saved(part, "BMP") for part in parts],
    }


def demo(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))[:40]


def saved(picture: Image.Image, form: str, **how: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **how)
    return content.getvalue()


def grouped(decode: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[list[bytes]], tf.Tensor]:
    decoded = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
    return tf.function(
        lambda encoded: tf.map_fn(decode, encoded, fn_output_signature=decoded),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def tensorflow_alone(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return resize(image)


def resize(image: tf.Tensor) -> tf.Tensor:
    resized = tf.image.resize(image[tf.newaxis], (SIZE, SIZE), method="bicubic", antialias=True)[0]
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


resized = tf.function(resize, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)], autograph=False)


def opened(encoded: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(encoded)) as picture:
        return picture.size


def by_pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def least(side: Callable[[list[bytes]], object], pictures: list[bytes], rounds: int) -> float:
    groups = [pictures[at : at + GROUP] for at in range(0, len(pictures), GROUP)]
    side(groups[0])
    took = []
    for _ in range(rounds):
        begun = time.process_time()
        for group in groups:
            side(group)
        took.append(time.process_time() - begun)
    return 1000 * min(took) / len(pictures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
