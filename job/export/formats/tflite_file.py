"""TFLite: TensorFlow's converter writes it, and LiteRT's interpreter runs it for the check."""

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
    """The content of the TFLite file. The ranges of int8 are measured on the inputs `representative`, [n, …].

    Weights are float16, or weights and activations int8, where TFLite has a kernel; inputs and outputs keep the types
    of the network. Raises JobError where TFLite lacks an operation.
    """
    spec = tf.TensorSpec([None, *network.input_shape[1:]], network.input.dtype, name=network.input.name)

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network(inputs, training=False)}

    def representative_batches() -> Iterator[list[np.ndarray]]:
        for example in representative:
            yield [example[np.newaxis].astype(network.input.dtype)]

    with scratch() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        archive.add_endpoint(SIGNATURE, serve, input_signature=[spec])
        archive.write_out(str(Path(folder, "saved_model")), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder, "saved_model")))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "tflite_int8":
            converter.representative_dataset = representative_batches
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


def probabilities(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """The probabilities of the file, float32 [n, classes], for inputs [n, …]."""
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = Interpreter(model_content=content).get_signature_runner(SIGNATURE)
    ((name, detail),) = runner.get_input_details().items()
    return np.concatenate([runner(**{name: batch})["probabilities"] for batch in batches(inputs, detail["dtype"])])


def logits(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """The logits of the file, float32 [n, classes], for inputs [n, …]: the inputs of its softmax. Kernels that fuse the
    softmax with operations below are not used. Raises JobError where the file has no softmax.
    """
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that keeping every tensor takes memory
        interpreter: Any = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    softmaxes = [op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX"]
    if not softmaxes:
        raise JobError("tflite: not written, since it does not end in a softmax. Use the SavedModel.")
    at = int(softmaxes[-1]["inputs"][0])
    scale, zero = next(d["quantization"] for d in interpreter.get_tensor_details() if d["index"] == at)
    runner = interpreter.get_signature_runner(SIGNATURE)
    ((name, detail),) = runner.get_input_details().items()
    parts = []
    for batch in batches(inputs, detail["dtype"]):
        runner(**{name: batch})
        parts.append(interpreter.get_tensor(at).astype(np.float32))
    whole = np.concatenate(parts)
    return (whole - zero) * scale if scale else whole
