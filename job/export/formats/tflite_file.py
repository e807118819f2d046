"""TFLite: written by TensorFlow's converter, and asked with LiteRT's interpreter."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.errors import JobError, headline
from job.export.formats.input_batches import batches
from job.storage.scratch import scratch

SIGNATURE = "serving_default"
MISSING = re.compile(r"(?:TF Select|Custom) ops: ([\w, ]+)|'tf\.(\w+)' op requires")


def convert(network: keras.Model, name: str, representative: np.ndarray) -> bytes:
    """The file's content. `representative` is what the ranges of int8 are measured on, one by one: inputs [n, …].

    Weights are float16, or weights and activations int8, as far as TFLite has a kernel; inputs and outputs stay what
    the network's are. Raises JobError where TFLite lacks an operation.
    """
    spec = tf.TensorSpec([None, *network.input_shape[1:]], network.input.dtype, name=network.input.name)

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network(inputs, training=False)}

    def some() -> Iterator[list[np.ndarray]]:
        for one in representative:
            yield [one[np.newaxis].astype(network.input.dtype)]

    with scratch() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        archive.add_endpoint(SIGNATURE, serve, input_signature=[spec])
        archive.write_out(str(Path(folder, "saved_model")), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder, "saved_model")))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "tflite_int8":
            converter.representative_dataset = some
            kernels = tf.lite.OpsSet
            converter.target_spec.supported_ops = [kernels.TFLITE_BUILTINS_INT8, kernels.TFLITE_BUILTINS]
        else:
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:  # the converter raises whatever its passes meet
            lacking = [name for names in MISSING.findall(str(error)) for name in names if name]
            why = f"TFLite lacks what it needs ({', '.join(lacking)})" if lacking else headline(error)
            raise JobError(f"{name}: this network can't be converted: {why}. Use the SavedModel.") from error


def answers(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """Probabilities float32 [n, classes] of inputs [n, …]."""
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = Interpreter(model_content=content).get_signature_runner(SIGNATURE)
    ((name, detail),) = runner.get_input_details().items()
    return np.concatenate([runner(**{name: some})["probabilities"] for some in batches(inputs, detail["dtype"])])


def logits(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """float32 [n, classes] of inputs [n, …]: what the file's softmax is given. Kernels that merge it with what is below
    it are left out. Raises JobError where the file has no softmax.
    """
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that every tensor is kept takes memory
        interpreter: Any = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    softmaxes = [op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX"]
    if not softmaxes:
        raise JobError("tflite: not written, since it does not end in a softmax. Use the SavedModel.")
    at = int(softmaxes[-1]["inputs"][0])
    scale, zero = next(d["quantization"] for d in interpreter.get_tensor_details() if d["index"] == at)
    runner = interpreter.get_signature_runner(SIGNATURE)
    ((name, detail),) = runner.get_input_details().items()
    found = []
    for some in batches(inputs, detail["dtype"]):
        runner(**{name: some})
        found.append(interpreter.get_tensor(at).astype(np.float32))
    whole = np.concatenate(found)
    return (whole - zero) * scale if scale else whole
