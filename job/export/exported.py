"""Loads `model.keras` of an export as one compiled function. Of Thaw's own code, it needs only the layer of word
vectors.
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

PredictFunction = Callable[[np.ndarray], Any]
"""A function: pixels 0…255, float32 [n, S, S, 3], or word ids, int64 [n, L] -> probabilities [n, classes]."""
WithLogits = Callable[[np.ndarray], tuple[Any, Any]]
"""A function: the same inputs -> logits and probabilities, [n, classes] each."""
_latest: tuple[str, PredictFunction] | None = None
"""The URI and the network of this process's last export, which the report uses just after it."""


def compiled(model: keras.Model) -> WithLogits:
    """The compiled function of `model`, which ends in a softmax of its logits, for batches of any size."""
    import keras

    from job.model.work import nodes

    (logits,) = nodes(model)[-1].input_tensors
    return _function(keras.Model(model.input, [logits, model.output]))


def load_with_logits(path: Path) -> WithLogits:
    """The compiled function of a .keras file. Raises what Keras raises where the file or one of its layers is
    broken.
    """
    return compiled(_loaded(path))


def load_file(path: Path) -> PredictFunction:
    """The network of a .keras file. Raises as `load_with_logits`."""
    return _function(_loaded(path))


def probabilities_of(network: WithLogits) -> PredictFunction:
    return lambda inputs: network(inputs)[1]


def load_exported(model: Store) -> PredictFunction:
    """The network of an export's folder. The last export of this process is not loaded a second time."""
    if _latest and _latest[0] == model.uri:
        return _latest[1]
    with scratch() as folder:
        download_files(model, ("model.keras",), Path(folder))
        return load_file(Path(folder, "model.keras"))


def remember(uri: str, network: PredictFunction) -> None:
    """Remembers the network that is exported at `uri`, where nothing else will ever be written."""
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
