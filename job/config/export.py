"""`export`: what a finished model is written as, beside Keras's format and the SavedModel. It changes no result."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from job.config.base import Section

Format = Literal["tflite_float16", "tflite_int8", "onnx"]
FORMATS: tuple[str, ...] = get_args(Format)


class Export(Section):
    formats: list[Format] = Field([])
    """`tflite_float16`, `tflite_int8`, `onnx`: each is compared with the Keras model before it is written."""
