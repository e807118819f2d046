"""What `thaw plan` prints: the forecast of a run, in blocks that need no colour and 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from job.data.splits import SPLITS
from job.planning.forecast_document import (
    CacheSection,
    DataSection,
    DuplicatesSection,
    ForecastDocument,
    NetworkSection,
    PhaseSection,
    RejectsSection,
)
from job.planning.printed_blocks import BAR, Shown, plain_table, right_aligned, spanned, stage_name
from job.planning.printed_costs import limit_lines, memory_lines, scale_lines, scale_title, time_lines
from job.telemetry.printable import plain
from job.wording import counted, plural, size, work

WIDTH = 80
CLASSES = 12
"""Classes that are shown; of the others, how many there are."""
NAME = 24
"""Columns of a class name."""
SHADES = "█▓░"
"""The shade of each split, in the order train, validation, test."""


class Paragraph(NamedTuple):
    title: str
    lines: Iterable[Shown]
    indent: int = 2


def print_forecast(console: Console, forecast: ForecastDocument) -> None:
    """Prints the document that `thaw plan --json` prints."""
    # In a log, lines are folded where a terminal of 80 columns would.
    width = min(console.width, 100) if console.is_terminal else WIDTH

    def put(lines: Iterable[Shown], indent: int) -> None:
        for line in lines:
            shown = Text(line) if isinstance(line, str) else line
            console.print(Padding(shown, (0, 0, 0, indent), expand=False), width=width)

    put(_heading(forecast), 0)
    if forecast.run.uri:  # whole, to be copied
        console.print(Text(f"  {plain(forecast.run.uri)}"), soft_wrap=True)
    for paragraph in _paragraphs(forecast):
        console.print()
        console.print(Text(paragraph.title, "bold"))
        put(paragraph.lines, paragraph.indent)


def shaded(values: list[int], largest: float, width: int = BAR) -> str:
    """One bar of several parts, each in a shade of its own, and none of them invisible."""
    parts = [max(1, round(width * value / largest)) if value else 0 for value in values]
    return "".join(shade * part for shade, part in zip(SHADES, parts, strict=True))


def _paragraphs(forecast: ForecastDocument) -> Iterator[Paragraph]:
    data, network, workers, memory = forecast.data, forecast.network, forecast.price.workers, forecast.memory
    yield Paragraph(f"{data.examples:,} examples in {len(data.counts['train']):,} classes", _examples(data))
    yield Paragraph(f"network {plain(network.backbone, 60)}", _network(network, forecast.phases))
    yield Paragraph("features", _cache(forecast.cache))
    yield Paragraph("phases", _phases(forecast.phases))
    yield Paragraph("time", time_lines(forecast.time, forecast.price))
    if forecast.limits:
        yield Paragraph("limits", limit_lines(forecast.limits))
    if forecast.scale:
        yield Paragraph(scale_title(forecast.scale), scale_lines(forecast.scale))
    whose = "the worker" if workers == 1 else f"each of {workers} workers"
    yield Paragraph(f"memory of {whose}: {size(memory.total)}", memory_lines(memory))
    warnings = [
        Text.assemble("! ", (caution.setting, "bold"), f": {plain(caution.text)}") for caution in forecast.warnings
    ]
    yield Paragraph(plural(len(warnings), "warning") if warnings else "no warnings", warnings, indent=0)


def _heading(forecast: ForecastDocument) -> Iterator[Shown]:
    state = {
        "new": "not begun",
        "begun": "begun: it would go on",
        "finished": "finished: only --new would do it again, as below",
        "unknown": "it can be named once all packed files are read",
    }[forecast.run.state]
    yield f"plan of {forecast.job}: nothing is changed"
    yield f"run: {state}"


def _examples(data: DataSection) -> Iterator[Shown]:
    counts = data.counts
    totals = {label: sum(counts[split][label] for split in SPLITS) for label in counts["train"]}
    if data.share < 1:
        share = f"in the {data.share:.1%} of the packed files' bytes that have been read so far"
        yield f"{share}; work and time below are of all of them"
    yield f"left out: {counted(data.left_out)}"
    names = (f"{shade} {name}" for name, shade in zip(SPLITS, SHADES, strict=True))
    table = plain_table("class", *right_aligned(*names), Column("", no_wrap=True))
    labels = sorted(totals, key=lambda label: -totals[label]) if len(totals) > CLASSES else list(totals)
    half = CLASSES // 2  # the rarest ones are among those to know about
    for label in [*labels[:half], None, *labels[-half:]] if len(labels) > CLASSES else labels:
        if label is None:
            others = [totals[label] for label in labels[half:-half]]
            sizes = f"{min(others):,} to {max(others):,} each"
            table.add_row(Text(f"… {len(others):,} more"), "", "", "", Text(sizes))
            continue
        numbers = [counts[split][label] for split in SPLITS]
        drawn = shaded(numbers, max(totals.values()))
        table.add_row(Text(plain(label, NAME)), *(f"{number:,}" for number in numbers), drawn)
    yield table
    yield _item("rejects", _rejects(data.rejects))
    yield _item("copies", _duplicates(data.duplicates))


def _rejects(rejects: RejectsSection) -> Iterator[str]:
    listing, decoding = sum(rejects.listing.values()), sum(rejects.decoding.values())
    yield "by the listing" + (f", exactly: {listing:,} ({_reasons(rejects.listing)})" if listing else ": none")
    if decoding:
        yield f"known not to decode: {decoding:,} ({_reasons(rejects.decoding)})"
    expected, in_sample = rejects.expected, sum(rejects.sample.values())
    among = f"{in_sample:,} of {rejects.sampled:,} sampled headers"
    if not rejects.sampled:
        yield "by headers: none could be sampled"
    elif in_sample:
        span = f"{expected.low:,.0f} to {expected.high:,.0f}"
        yield f"by headers: about {expected.likely:,.0f} ({span}; {among}): {_reasons(rejects.sample)}"
    else:
        yield f"by headers: none expected, fewer than {max(1, expected.high):,.0f} ({among})"
    yield from (f"· {plain(example.key, 50)}: {plain(example.reason)}" for example in rejects.examples)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count:,} {plain(reason)}" for reason, count in reasons.items())


def _duplicates(duplicates: DuplicatesSection) -> Iterator[str]:
    if not duplicates.held_out_compared:
        yield f"across splits: {duplicates.note}"
        return
    pairs, compared = duplicates.held_out_with_a_near_copy, duplicates.held_out_compared
    other = f", {duplicates.of_another_label:,} of another label" if duplicates.of_another_label else ""
    yield f"across splits: {pairs:,} of {compared:,} held-out examples are nearly the same as a training example{other}"
    if duplicates.note:
        yield duplicates.note
    yield from (f"· {plain(pair.held_out, 32)} = {plain(pair.train, 32)}" for pair in duplicates.nearest)


def _item(name: str, lines: Iterable[str]) -> Table:
    table = Table.grid(Column(width=9), Column())
    for at, line in enumerate(lines):
        table.add_row("" if at else name, Text(line))
    return table


def _network(network: NetworkSection, phases: list[PhaseSection]) -> Iterator[Shown]:
    cut, total = network.cut, network.work
    if cut:
        below = network.work_below_cut / total if total else 0
        shape = "×".join(map(str, network.shape))
        yield f"cut at {cut} ({shape}): {below:.0%} of the work lies below, and is done once"
    else:
        yield "not cut: fine-tuning starts from what is decoded"
    yield network.reason
    thawed = [block for block in network.blocks if block.trainable]
    if thawed and any(phase.name == "fine_tune" for phase in phases):
        names = thawed[0].name if len(thawed) == 1 else f"{thawed[0].name} to {thawed[-1].name}"
        yield f"thawed: {names}, {len(thawed)} of {len(network.blocks)} blocks"
    known = sum(block.trainable for block in network.blocks)
    share = f", of which {known:,} ({known / network.parameters:.0%}) are thawed" if network.parameters else ""
    yield f"{network.parameters:,} parameters{share}; head {network.head_parameters:,}"


def _cache(cache: CacheSection) -> Iterator[Shown]:
    table = plain_table("tensor", *right_aligned("views", "needed", "stored", "to compute", "bytes in all"))
    for tensor in cache.tensors:
        numbers = [f"{number:,}" for number in (tensor.views, tensor.needed, tensor.stored, tensor.missing)]
        table.add_row(Text(plain(tensor.tap, 24)), *numbers, size(tensor.bytes))
    yield table
    if cache.examples_to_compute:
        passes = f"{cache.examples_to_compute:,} examples, {cache.passes_to_compute:,} passes of the network"
        yield f"to compute: {passes} ({work(cache.work)} multiply-adds), {size(cache.bytes_to_write)}"
    else:
        yield "all is stored already: nothing is computed"


def _phases(phases: list[PhaseSection]) -> Iterator[Shown]:
    table = plain_table("", *right_aligned("parameters", "epochs", "forward", "backward", "in all"))
    for phase in phases:
        epochs = phase.epochs
        span = spanned(f"{epochs.low:g}", f"{epochs.high:g}")
        trainable = "by the words" if phase.trainable is None else f"{phase.trainable:,}"
        likely = f"{epochs.likely:g}" + (f" ({span})" if span else "")
        numbers = map(work, (phase.forward_per_epoch, phase.backward_per_epoch, phase.work))
        table.add_row(stage_name(phase.name), trainable, likely, *numbers)
    yield table
    yield "forward and backward: multiply-adds of an epoch"
    yield from (f"{stage_name(phase.name)} epochs: {phase.assumes}" for phase in phases)
