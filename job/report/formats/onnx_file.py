"""ONNX: written by Keras with tf2onnx, and asked with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from job.errors import JobError, headline
from job.report.formats.batches import batches
from job.storage.scratch import scratch

OUTPUT = "probabilities"


def convert(network: keras.Model) -> bytes:
    """The file's content. Raises JobError where ONNX lacks an operation."""
    import onnx

    taken = keras.InputSpec(network.input.dtype, network.input_shape, name=network.input.name)
    with scratch() as folder:
        file = str(Path(folder, "model.onnx"))
        try:
            network.export(file, format="onnx", verbose=False, input_signature=[taken])
            model = _named(onnx.load(file))
            onnx.checker.check_model(model)
        except Exception as error:  # tf2onnx raises whatever it meets, and writes what it doesn't know for the checker
            raise JobError(f"onnx: this network can't be converted: {headline(error)}. Use the SavedModel.") from error
    return model.SerializeToString()


def _named(model):  # type: ignore[no-untyped-def]  # protobuf's classes are made at run time
    """Its output as `probabilities`, its first axis as `n`; tf2onnx makes up names for both."""
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [OUTPUT if name == output.name else name for name in node.output]
        node.input[:] = [OUTPUT if name == output.name else name for name in node.input]
    output.name = OUTPUT
    for tensor in (*model.graph.input, output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def answers(content: bytes, inputs: np.ndarray, dtype: str) -> np.ndarray:
    """Probabilities float32 [n, classes] of inputs [n, …], which the network takes as `dtype`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return np.concatenate([session.run([OUTPUT], {taken.name: some})[0] for some in batches(inputs, dtype)])
