"""The records of an event file, as TensorBoard reads them."""

from __future__ import annotations

import io
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from job.data.sources.tfrecord import framed
from job.libraries import import_tensorboardx

if TYPE_CHECKING:
    from PIL import Image

    from job.run.events import Histogram


def version() -> bytes:
    """The first one of a file."""
    return _record(0, file_version="brain.Event:2")


def restart(step: int) -> bytes:
    """What other files have drawn from this step on counts no more."""
    log = _messages("event").SessionLog
    return _record(step, session_log=log(status=log.START))


def scalars(step: int, values: dict[str, float]) -> bytes:
    """By tag."""
    summary = _messages("summary").Summary
    message = summary(value=[summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return _record(step, summary=message)


def histograms(step: int, by_tag: dict[str, Histogram]) -> bytes:
    messages = _messages("summary")
    values = []
    for tag, histogram in by_tag.items():
        limits, counts = histogram.limits.tolist(), histogram.counts.tolist()
        proto = messages.HistogramProto(min=limits[0], max=limits[-1], num=histogram.count, sum=histogram.sum)
        proto.sum_squares = histogram.squares
        proto.bucket_limit.extend(limits)  # each bucket ends at its limit: the first one is empty
        proto.bucket.extend([0.0, *counts])
        values.append(messages.Summary.Value(tag=tag, histo=proto))
    return _record(step, summary=messages.Summary(value=values))


def picture(step: int, tag: str, image: Image.Image, *, description: str) -> bytes:
    """`description`: Markdown."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    sizes = [str(image.width).encode(), str(image.height).encode()]
    return _strings(step, tag, "images", values=[*sizes, buffer.getvalue()], description=description)


def text(step: int, tag: str, markdown: str) -> bytes:
    return _strings(step, tag, "text", values=[markdown.encode()])


def _strings(step: int, tag: str, plugin: str, *, values: list[bytes], description: str = "") -> bytes:
    """A tensor for a plug-in: of an image summary as it was before, TensorBoard's data server drops the description."""
    shapes, tensors, summaries = _messages("tensor_shape"), _messages("tensor"), _messages("summary")
    shape = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=len(values))])
    string = _messages("types").DT_STRING
    tensor = tensors.TensorProto(dtype=string, string_val=values, tensor_shape=shape)
    data = summaries.SummaryMetadata.PluginData(plugin_name=plugin)
    metadata = summaries.SummaryMetadata(plugin_data=data, summary_description=description)
    value = summaries.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
    return _record(step, summary=summaries.Summary(value=[value]))


def plain_markdown(words: str) -> str:
    """In one line, with nothing in it that means something in Markdown or in HTML."""
    return "".join(c if c.isalnum() or c == " " or ord(c) > 127 else f"&#{ord(c)};" for c in " ".join(words.split()))


def _record(step: int, **event: Any) -> bytes:
    return framed(_messages("event").Event(wall_time=time.time(), step=step, **event).SerializeToString())


def _messages(kind: str) -> Any:
    """The module that defines messages of this kind."""
    import_tensorboardx()
    return import_module(f"tensorboardX.proto.{kind}_pb2")
