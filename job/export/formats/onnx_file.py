"""ONNX: Keras writes it with tf2onnx, and ONNX Runtime runs it for the check."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from job.errors import JobError, headline
from job.export.formats.input_batches import batches
from job.storage.scratch import scratch

OUTPUT = "probabilities"


def convert(network: keras.Model) -> bytes:
    """The content of the ONNX file. Raises JobError where ONNX lacks an operation."""
    import onnx

    taken = keras.InputSpec(network.input.dtype, network.input_shape, name=network.input.name)
    with scratch() as folder:
        file = str(Path(folder, "model.onnx"))
        try:
            network.export(file, format="onnx", verbose=False, input_signature=[taken])
            model = _named(onnx.load(file))
            onnx.checker.check_model(model)
        except Exception as error:  # tf2onnx raises errors of all types; the checker finds operations unknown to ONNX
            raise JobError(f"onnx: this network can't be converted: {headline(error)}. Use the SavedModel.") from error
    return model.SerializeToString()


def _named(model):  # type: ignore[no-untyped-def]  # protobuf's classes are made at run time
    """The model with its output called `probabilities` and its first axis `n`; tf2onnx invents names for both."""
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [OUTPUT if name == output.name else name for name in node.output]
        node.input[:] = [OUTPUT if name == output.name else name for name in node.input]
    output.name = OUTPUT
    for tensor in (*model.graph.input, output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def probabilities(content: bytes, inputs: np.ndarray, dtype: str) -> np.ndarray:
    """The probabilities of the file, float32 [n, classes], for inputs [n, …], which are converted to `dtype`."""
    return _run(content, [OUTPUT], inputs, dtype=dtype)[0]


def logits_and_probabilities(content: bytes, inputs: np.ndarray, dtype: str) -> list[np.ndarray]:
    """The logits and the probabilities of the file for these inputs, from one graph to which the logits are added as an
    output. Raises JobError where the graph does not end in a softmax.
    """
    import onnx

    model = onnx.load_from_string(content)
    made_by = {name: node for node in model.graph.node for name in node.output}
    last = made_by[OUTPUT]
    if last.op_type != "Softmax":
        raise JobError(f"onnx: not written, since it ends in {last.op_type}, not in a softmax. Use the SavedModel.")
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    return _run(model.SerializeToString(), [last.input[0], OUTPUT], inputs, dtype=dtype)


def _run(content: bytes, names: list[str], inputs: np.ndarray, *, dtype: str) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    parts = [session.run(names, {taken.name: batch}) for batch in batches(inputs, dtype)]
    return [np.concatenate(of) for of in zip(*parts, strict=True)]
