"""`model.keras` of an export, loaded again, as one compiled function; it needs none of the run's own code but the layer
of word vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from job.export.checksums import download_files
from job.libraries import import_tensorflow
from job.storage import Store
from job.storage.scratch import scratch

if TYPE_CHECKING:
    import keras

Network = Callable[[np.ndarray], Any]
"""Pixels 0…255 float32 [n, S, S, 3], or ids of words int64 [n, L] -> probabilities [n, classes]"""
Asked = Callable[[np.ndarray], tuple[Any, Any]]
"""The same inputs -> logits and probabilities, [n, classes] each"""
_latest: tuple[str, Network] | None = None
"""The export that this process has made last, by its URI: the report asks it just after."""


def compiled(model: keras.Model) -> Asked:
    """For any number of inputs at a time. `model` ends in a softmax of its logits."""
    import keras

    from job.model.work import nodes

    (logits,) = nodes(model)[-1].input_tensors
    return _function(keras.Model(model.input, [logits, model.output]))


def load_asked(path: Path) -> Asked:
    """Raises what Keras raises where the file is none, or has a layer that can't be made again."""
    return compiled(_loaded(path))


def load_file(path: Path) -> Network:
    """Raises as `load_asked`."""
    return _function(_loaded(path))


def probabilities_of(asked: Asked) -> Network:
    return lambda inputs: asked(inputs)[1]


def load_exported(model: Store) -> Network:
    """That of an export's folder; no second time of the one that this process has made last."""
    if _latest and _latest[0] == model.uri:
        return _latest[1]
    with scratch() as folder:
        download_files(model, ("model.keras",), Path(folder))
        return load_file(Path(folder, "model.keras"))


def remember(uri: str, network: Network) -> None:
    """`network` is what is exported at `uri`, where nothing else will ever be."""
    global _latest
    _latest = uri, network


def _loaded(path: Path) -> keras.Model:
    import_tensorflow()
    import keras

    import job.model.words  # noqa: F401 - the layer of word vectors is registered there

    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _function(model: keras.Model) -> Any:
    import tensorflow as tf

    spec = tf.TensorSpec([None, *model.input_shape[1:]], model.input.dtype)
    return tf.function(lambda inputs: model(inputs, training=False), input_signature=[spec], autograph=False)
