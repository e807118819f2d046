"""The records of an event file, as TensorBoard reads them."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

from job.data.tfrecord import framed

if TYPE_CHECKING:
    from PIL import Image


def version() -> bytes:
    """The first one of a file."""
    return _record(0, file_version="brain.Event:2")


def restart(step: int) -> bytes:
    """What other files have drawn from this step on counts no more."""
    from tensorboardX.proto.event_pb2 import SessionLog

    return _record(step, session_log=SessionLog(status=SessionLog.START))


def scalars(step: int, values: dict[str, float]) -> bytes:
    """By tag."""
    from tensorboardX.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return _record(step, summary=summary)


def histograms(step: int, found: dict[str, dict[str, Any]]) -> bytes:
    """By tag: job.train.measure.histogram."""
    from tensorboardX.proto.summary_pb2 import HistogramProto, Summary

    values = []
    for tag, one in found.items():
        limits, counts = one["limits"].tolist(), one["counts"].tolist()
        proto = HistogramProto(min=limits[0], max=limits[-1], num=one["count"], sum=one["sum"])
        proto.sum_squares = one["squares"]
        proto.bucket_limit.extend(limits)  # each bucket ends at its limit: the first one is empty
        proto.bucket.extend([0.0, *counts])
        values.append(Summary.Value(tag=tag, histo=proto))
    return _record(step, summary=Summary(value=values))


def picture(step: int, tag: str, image: Image.Image, description: str) -> bytes:
    """`description`: Markdown."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    sizes = [str(image.width).encode(), str(image.height).encode()]
    return _strings(step, tag, "images", [*sizes, buffer.getvalue()], description)


def text(step: int, tag: str, markdown: str) -> bytes:
    return _strings(step, tag, "text", [markdown.encode()])


def _strings(step: int, tag: str, plugin: str, values: list[bytes], description: str = "") -> bytes:
    """A tensor for a plug-in: of an image summary as it was before, TensorBoard's data server drops the description."""
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboardX.proto.tensor_pb2 import TensorProto
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboardX.proto.types_pb2 import DT_STRING

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(values))])
    tensor = TensorProto(dtype=DT_STRING, string_val=values, tensor_shape=shape)
    data = SummaryMetadata.PluginData(plugin_name=plugin)
    metadata = SummaryMetadata(plugin_data=data, summary_description=description)
    return _record(step, summary=Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]))


def plain_markdown(words: str) -> str:
    """In one line, with nothing in it that means something in Markdown or in HTML."""
    return "".join(c if c.isalnum() or c == " " or ord(c) > 127 else f"&#{ord(c)};" for c in " ".join(words.split()))


def _record(step: int, **event: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event

    return framed(Event(wall_time=time.time(), step=step, **event).SerializeToString())
