"""What `thaw plan` prints: the forecast of a run, in blocks that need no colour and 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from job.data.splits import SPLITS
from job.telemetry.printable import plain
from job.wording import counted, duration, plural, size, work

Document = dict[str, Any]
Shown = str | Text | Table
WIDTH = 80
BAR = 20
"""Columns of the longest bar."""
CLASSES = 12
"""Classes that are shown; of the others, how many there are."""
NAME = 24
"""Columns of a class name."""
SHADES = "█▓░"
"""The shade of each split, in the order train, validation, test."""
EIGHTHS = " ▏▎▍▌▋▊▉"
SOURCES = {
    "measured": "",
    "calibration": "measured here",
    "derived": "derived",
    "last run": "as the last run",
    "constant": "usual",
}
STAGES = {"fine_tune": "fine-tuning", "preparing": "weights, start of Ray", "workers": "start of workers"}


class Paragraph(NamedTuple):
    title: str
    lines: Iterable[Shown]
    indent: int = 2


def print_forecast(console: Console, found: Document) -> None:
    """Prints the document that `thaw plan --json` prints."""
    # In a log, lines are folded where a terminal of 80 columns would.
    width = min(console.width, 100) if console.is_terminal else WIDTH

    def put(lines: Iterable[Shown], indent: int) -> None:
        for line in lines:
            shown = Text(line) if isinstance(line, str) else line
            console.print(Padding(shown, (0, 0, 0, indent), expand=False), width=width)

    put(_heading(found), 0)
    if found["run"]["uri"]:  # whole, to be copied
        console.print(Text(f"  {plain(found['run']['uri'])}"), soft_wrap=True)
    for block in _blocks(found):
        console.print()
        console.print(Text(block.title, "bold"))
        put(block.lines, block.indent)


def bar(value: float, largest: float, width: int = BAR) -> str:
    """A bar of blocks, in eighths of a column; at least the thinnest where there is anything."""
    eighths = round(8 * width * value / largest) if largest else 0
    eighths = max(eighths, 1) if value else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def shaded(values: list[int], largest: float, width: int = BAR) -> str:
    """One bar of several parts, each in a shade of its own, and none of them invisible."""
    parts = [max(1, round(width * value / largest)) if value else 0 for value in values]
    return "".join(shade * part for shade, part in zip(SHADES, parts, strict=True))


def _span(low: str, high: str) -> str:
    return "" if low == high else f"{low} to {high}"


def _table(*columns: Column | str, header: bool = True) -> Table:
    return Table(*columns, box=None, pad_edge=False, show_header=header)


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _blocks(found: Document) -> Iterator[Paragraph]:
    data, network, workers, warnings = found["data"], found["network"], found["price"]["workers"], found["warnings"]
    yield Paragraph(f"{data['examples']:,} examples in {len(data['counts']['train']):,} classes", _examples(data))
    yield Paragraph(f"network {plain(network['backbone'], 60)}", _network(network, found["phases"]))
    yield Paragraph("features", _cache(found["cache"]))
    yield Paragraph("phases", _phases(found["phases"]))
    yield Paragraph("time", _time(found["time"], found["price"]))
    whose = "the worker" if workers == 1 else f"each of {workers} workers"
    yield Paragraph(f"memory of {whose}: {size(found['memory']['total'])}", _memory(found["memory"]))
    told = [Text.assemble("! ", (one["setting"], "bold"), f": {plain(one['text'])}") for one in warnings]
    yield Paragraph(plural(len(told), "warning") if told else "no warnings", told, indent=0)


def _heading(found: Document) -> Iterator[Shown]:
    told = {
        "new": "not begun",
        "begun": "begun: it would go on",
        "finished": "finished: only --new would do it again, as below",
        "unknown": "it can be named once all packed files are read",
    }[found["run"]["state"]]
    yield f"plan of {found['job']}: nothing is changed"
    yield f"run: {told}"


def _examples(data: Document) -> Iterator[Shown]:
    counts = data["counts"]
    totals = {label: sum(counts[split][label] for split in SPLITS) for label in counts["train"]}
    if data["share"] < 1:
        share = f"in the {data['share']:.1%} of the packed files' bytes that have been read so far"
        yield f"{share}; work and time below are of all of them"
    yield f"left out: {counted(data['left_out'])}"
    names = (f"{shade} {name}" for name, shade in zip(SPLITS, SHADES, strict=True))
    table = _table("class", *_right(*names), Column("", no_wrap=True))
    labels = sorted(totals, key=lambda label: -totals[label]) if len(totals) > CLASSES else list(totals)
    half = CLASSES // 2  # the rarest ones are among those to know about
    for label in [*labels[:half], None, *labels[-half:]] if len(labels) > CLASSES else labels:
        if label is None:
            some = [totals[label] for label in labels[half:-half]]
            table.add_row(Text(f"… {len(some):,} more"), "", "", "", Text(f"{min(some):,} to {max(some):,} each"))
            continue
        numbers = [counts[split][label] for split in SPLITS]
        drawn = shaded(numbers, max(totals.values()))
        table.add_row(Text(plain(label, NAME)), *(f"{number:,}" for number in numbers), drawn)
    yield table
    yield _item("rejects", _rejects(data["rejects"]))
    yield _item("copies", _duplicates(data["duplicates"]))


def _rejects(rejects: Document) -> Iterator[str]:
    listing, decoding = (sum(rejects[name].values()) for name in ("listing", "decoding"))
    yield "by the listing" + (f", exactly: {listing:,} ({_reasons(rejects['listing'])})" if listing else ": none")
    if decoding:
        yield f"known not to decode: {decoding:,} ({_reasons(rejects['decoding'])})"
    expected, found = rejects["expected"], sum(rejects["sample"].values())
    among = f"{found:,} of {rejects['sampled']:,} sampled headers"
    if not rejects["sampled"]:
        yield "by headers: none could be sampled"
    elif found:
        span = f"{expected['low']:,} to {expected['high']:,}"
        yield f"by headers: about {expected['likely']:,} ({span}; {among}): {_reasons(rejects['sample'])}"
    else:
        yield f"by headers: none expected, fewer than {max(1, expected['high']):,} ({among})"
    yield from (f"· {plain(example['key'], 50)}: {plain(example['reason'])}" for example in rejects["examples"])


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count:,} {plain(reason)}" for reason, count in reasons.items())


def _duplicates(found: Document) -> Iterator[str]:
    if not found["held_out_compared"]:
        yield f"across splits: {found['note']}"
        return
    pairs, compared = found["held_out_with_a_near_copy"], found["held_out_compared"]
    other = f", {found['of_another_label']:,} of another label" if found["of_another_label"] else ""
    yield f"across splits: {pairs:,} of {compared:,} held-out examples are nearly the same as a training example{other}"
    if found["note"]:
        yield found["note"]
    yield from (f"· {plain(pair['held_out'], 32)} = {plain(pair['train'], 32)}" for pair in found["nearest"])


def _item(name: str, lines: Iterable[str]) -> Table:
    table = Table.grid(Column(width=9), Column())
    for at, line in enumerate(lines):
        table.add_row("" if at else name, Text(line))
    return table


def _network(network: Document, phases: list[Document]) -> Iterator[Shown]:
    cut, total = network["cut"], network["work"]
    if cut:
        below = network["work_below_cut"] / total if total else 0
        shape = "×".join(map(str, network["shape"]))
        yield f"cut at {cut} ({shape}): {below:.0%} of the work lies below, and is done once"
    else:
        yield "not cut: fine-tuning starts from what is decoded"
    yield network["reason"]
    thawed = [block for block in network["blocks"] if block["trainable"]]
    if thawed and any(phase["name"] == "fine_tune" for phase in phases):
        names = thawed[0]["name"] if len(thawed) == 1 else f"{thawed[0]['name']} to {thawed[-1]['name']}"
        yield f"thawed: {names}, {len(thawed)} of {len(network['blocks'])} blocks"
    known = sum(block["trainable"] for block in network["blocks"])
    share = f", of which {known:,} ({known / network['parameters']:.0%}) are thawed" if network["parameters"] else ""
    yield f"{network['parameters']:,} parameters{share}; head {network['head_parameters']:,}"


def _cache(cache: Document) -> Iterator[Shown]:
    table = _table("tensor", *_right("views", "needed", "stored", "to compute", "bytes in all"))
    for tensor in cache["tensors"]:
        numbers = [f"{tensor[name]:,}" for name in ("views", "needed", "stored", "missing")]
        table.add_row(Text(plain(tensor["tap"], 24)), *numbers, size(tensor["bytes"]))
    yield table
    if cache["examples_to_compute"]:
        told = f"{cache['examples_to_compute']:,} examples, {cache['passes_to_compute']:,} passes of the network"
        yield f"to compute: {told} ({work(cache['work'])} multiply-adds), {size(cache['bytes_to_write'])}"
    else:
        yield "all is stored already: nothing is computed"


def _phases(phases: list[Document]) -> Iterator[Shown]:
    table = _table("", *_right("parameters", "epochs", "forward", "backward", "in all"))
    for phase in phases:
        epochs = phase["epochs"]
        span = _span(f"{epochs['low']:g}", f"{epochs['high']:g}")
        trainable = "by the words" if phase["trainable"] is None else f"{phase['trainable']:,}"
        told = f"{epochs['likely']:g}" + (f" ({span})" if span else "")
        numbers = [work(phase[name]) for name in ("forward_per_epoch", "backward_per_epoch", "work")]
        table.add_row(_stage(phase["name"]), trainable, told, *numbers)
    yield table
    yield "forward and backward: multiply-adds of an epoch"
    yield from (f"{_stage(phase['name'])} epochs: {phase['assumes']}" for phase in phases)


def _stage(name: str) -> str:
    return STAGES.get(name, name)


def _time(time: Document, price: Document) -> Iterator[Shown]:
    table = _table("", *_right(""), Column("", no_wrap=True), "", "", header=False)
    known = [stage["seconds"]["likely"] for stage in time["stages"] if stage["seconds"]]
    for stage in time["stages"]:
        seconds = stage["seconds"]
        if seconds is None:
            table.add_row(_stage(stage["name"]), "?", "", "", "not measured")
            continue
        span = _span(duration(seconds["low"]), duration(seconds["high"]))
        drawn = bar(seconds["likely"], max(known), 12)
        table.add_row(_stage(stage["name"]), duration(seconds["likely"]), drawn, span, SOURCES[stage["source"]])
    yield table
    total, note, calibration = time["total"], time["note"], time["calibration"]
    if total is None:
        yield "in all: not known" + ("" if note else "; --calibration measures what is not")
    else:
        span = _span(duration(total["low"]), duration(total["high"]))
        yield f"in all: {duration(total['likely'])}" + (f" ({span})" if span else "")
        yield _price(price)
    if note:
        yield note
    if time["last_run"]:
        yield f"the last run: {time['last_run']}"
    if calibration:
        yield f"measured in {duration(calibration['took'])}"
        yield from calibration["notes"]


def _price(price: Document) -> str:
    hours, cost = price["worker_hours"], price["price"]
    kind = "GPU hours" if price["gpu_hours"] else "worker hours"
    workers = plural(price["workers"], "worker")
    told = f"{kind}: {hours['likely']:.2g} ({hours['low']:.2g} to {hours['high']:.2g}), {workers}"
    return f"{told}; price: {cost['likely']:.2f} ({cost['low']:.2f} to {cost['high']:.2f})" if cost else told


def _memory(memory: Document) -> Iterator[Shown]:
    parts = ["process", "parameters", "gradients", "optimizer", "checkpoints", "activations", "batches"]
    table = _table("", *_right(""), Column("", no_wrap=True), header=False)
    for name in parts:
        if memory[name]:
            table.add_row(name, size(memory[name]), bar(memory[name], max(memory[part] for part in parts), 12))
    yield table
    yield f"and {size(memory['features'])} of features on each node's disk, mapped: given back where needed"
