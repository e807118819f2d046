"""The blocks of `thaw plan` about time, price and memory."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column

from job.planning.costs import Range
from job.planning.forecast_document import LimitSection, MemorySection, PriceSection, ScaleSection, TimeSection
from job.planning.printed_blocks import Shown, bar, plain_table, right_aligned, spanned, stage_name
from job.wording import duration, plural, size

SOURCES = {
    "measured": "",
    "calibration": "measured here",
    "derived": "derived",
    "last run": "as the last run",
    "constant": "usual",
}


def time_lines(time: TimeSection, price: PriceSection) -> Iterator[Shown]:
    table = plain_table("", *right_aligned(""), Column("", no_wrap=True), "", "", header=False)
    known = [stage.seconds.likely for stage in time.stages if stage.seconds]
    for stage in time.stages:
        seconds = stage.seconds
        if seconds is None:
            table.add_row(stage_name(stage.name), "?", "", "", "not measured")
            continue
        span = spanned(duration(seconds.low), duration(seconds.high))
        drawn = bar(seconds.likely, max(known), 12)
        table.add_row(stage_name(stage.name), duration(seconds.likely), drawn, span, SOURCES[stage.source])
    yield table
    total, note, calibration, hours = time.total, time.note, time.calibration, price.worker_hours
    if total is None or hours is None:
        yield "in all: not known" + ("" if note else "; --calibration measures what is not")
    else:
        span = spanned(duration(total.low), duration(total.high))
        yield f"in all: {duration(total.likely)}" + (f" ({span})" if span else "")
        yield _price(price, hours)
    if note:
        yield note
    if time.last_run:
        yield f"the last run: {time.last_run}"
    if calibration:
        yield f"measured in {duration(calibration.took)}"
        yield from calibration.notes


def _price(price: PriceSection, hours: Range) -> str:
    cost = price.price
    workers = plural(price.workers, "worker")
    text = f"worker hours: {hours.likely:.2g} ({hours.low:.2g} to {hours.high:.2g}), {workers}"
    if price.gpu_hours:
        text += f"; with GPUs: {price.gpu_hours.likely:.2g}"
    return f"{text}; price: {cost.likely:.2f} ({cost.low:.2f} to {cost.high:.2f})" if cost else text


def limit_lines(limits: list[LimitSection]) -> Iterator[Shown]:
    words = {"yes": "it fits", "no": "it does not fit", "perhaps": "it may fit, or not", "unknown": "not known"}
    for limit in limits:
        left = f"{duration(limit.left)} left" if limit.left > 0 else "reached"
        yield f"{limit.setting}: {limit.limit}, {left}: {words[limit.fits]}"


def scale_title(scale: ScaleSection) -> str:
    return f"on {plural(scale.workers, 'worker')} with {scale.gpu}, by a model"


def scale_lines(scale: ScaleSection) -> Iterator[Shown]:
    table = plain_table("", *right_aligned(""), Column("", no_wrap=True), "most of it", header=False)
    longest = max(stage.seconds for stage in scale.stages)
    for stage in scale.stages:
        table.add_row(stage_name(stage.name), duration(stage.seconds), bar(stage.seconds, longest, 12), stage.bound)
    yield table
    yield f"in all: {duration(scale.seconds)}; GPU hours: {scale.gpu_hours:.2g}"
    yield scale.note


def memory_lines(memory: MemorySection) -> Iterator[Shown]:
    parts = ["process", "parameters", "gradients", "optimizer", "checkpoints", "activations", "batches"]
    table = plain_table("", *right_aligned(""), Column("", no_wrap=True), header=False)
    sizes = {name: getattr(memory, name) for name in parts}
    for name, bytes in sizes.items():
        if bytes:
            table.add_row(name, size(bytes), bar(bytes, max(sizes.values()), 12))
    yield table
    yield f"and {size(memory.features)} of features on each node's disk, mapped: given back where needed"
