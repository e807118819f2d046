"""What `thaw plan` prints: the forecast of a run, in blocks that need no colour and 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from job.data.splits import SPLITS
from job.telemetry.printable import plain
from job.wording import counted, duration, plural, size, work

Document = dict[str, Any]
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


def print_forecast(console: Console, found: Document) -> None:
    """Prints the document that `thaw plan --json` prints."""
    _heading(console, found)
    _examples(console, found["data"])
    _network(console, found["network"], found["phases"])
    _cache(console, found["cache"])
    _phases(console, found["phases"])
    _time(console, found["time"], found["price"])
    _memory(console, found["memory"], found["price"]["workers"])
    _warnings(console, found["warnings"])


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


def _say(console: Console, text: str | Text, indent: int = 0) -> None:
    console.print(
        Padding(Text(text) if isinstance(text, str) else text, (0, 0, 0, indent), expand=False), width=_width(console)
    )


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold"))


def _width(console: Console) -> int:
    """A terminal's own; in a log, lines are folded where a terminal of 80 columns would."""
    return min(console.width, 100) if console.is_terminal else WIDTH


def _show(console: Console, table: Table) -> None:
    console.print(Padding(table, (0, 0, 0, 2), expand=False), width=_width(console))


def _heading(console: Console, found: Document) -> None:
    run = found["run"]
    told = {
        "new": "not begun",
        "begun": "begun: it would go on",
        "finished": "finished: only --new would do it again, as below",
        "unknown": "it can be named once all packed files are read",
    }[run["state"]]
    _say(console, f"plan of {found['job']}: nothing is changed")
    _say(console, f"run: {told}")
    if run["uri"]:  # whole, to be copied
        console.print(Text(f"  {plain(run['uri'])}"), soft_wrap=True)


def _examples(console: Console, data: Document) -> None:
    counts = data["counts"]
    totals = {label: sum(counts[split][label] for split in SPLITS) for label in counts["train"]}
    _title(console, f"{data['examples']:,} examples in {len(totals):,} classes")
    if data["share"] < 1:
        _say(
            console,
            f"in the {data['share']:.1%} of the packed files' bytes that have been read so far; work and time below "
            "are of all of them",
            2,
        )
    _say(console, f"left out: {counted(data['left_out'])}", 2)
    columns = [Column(f"{shade} {name}", justify="right") for name, shade in zip(SPLITS, SHADES, strict=True)]
    table = Table("class", *columns, Column("", no_wrap=True), box=None, pad_edge=False)
    labels = sorted(totals, key=lambda label: -totals[label]) if len(totals) > CLASSES else list(totals)
    largest = max(totals.values())
    half = CLASSES // 2  # the rarest ones are among those to know about
    for label in [*labels[:half], None, *labels[-half:]] if len(labels) > CLASSES else labels:
        if label is None:
            some = [totals[label] for label in labels[half:-half]]
            table.add_row(Text(f"… {len(some):,} more"), "", "", "", Text(f"{min(some):,} to {max(some):,} each"))
            continue
        numbers = [counts[split][label] for split in SPLITS]
        table.add_row(Text(plain(label, NAME)), *(f"{number:,}" for number in numbers), shaded(numbers, largest))
    _show(console, table)
    _rejects(console, data["rejects"])
    _duplicates(console, data["duplicates"])


def _rejects(console: Console, rejects: Document) -> None:
    listing, decoding = (sum(rejects[name].values()) for name in ("listing", "decoding"))
    exact = f", exactly: {listing:,} ({_reasons(rejects['listing'])})" if listing else ": none"
    lines = [f"by the listing{exact}"]
    if decoding:
        lines.append(f"known not to decode: {decoding:,} ({_reasons(rejects['decoding'])})")
    expected, found = rejects["expected"], sum(rejects["sample"].values())
    among = f"{found:,} of {rejects['sampled']:,} sampled headers"
    if not rejects["sampled"]:
        lines.append("by headers: none could be sampled")
    elif found:
        span = f"{expected['low']:,} to {expected['high']:,}"
        lines.append(f"by headers: about {expected['likely']:,} ({span}; {among}): {_reasons(rejects['sample'])}")
    else:
        lines.append(f"by headers: none expected, fewer than {max(1, expected['high']):,} ({among})")
    lines += [f"· {plain(example['key'], 50)}: {plain(example['reason'])}" for example in rejects["examples"]]
    _item(console, "rejects", lines)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count:,} {plain(reason)}" for reason, count in reasons.items())


def _duplicates(console: Console, found: Document) -> None:
    if not found["held_out_compared"]:
        _item(console, "copies", [f"across splits: {found['note']}"])
        return
    pairs, compared = found["held_out_with_a_near_copy"], found["held_out_compared"]
    other = f", {found['of_another_label']:,} of another label" if found["of_another_label"] else ""
    told = f"{pairs:,} of {compared:,} held-out examples are nearly the same as a training example{other}"
    lines = [f"across splits: {told}", *([found["note"]] if found["note"] else [])]
    lines += [f"· {plain(pair['held_out'], 32)} = {plain(pair['train'], 32)}" for pair in found["nearest"]]
    _item(console, "copies", lines)


def _item(console: Console, name: str, lines: list[str]) -> None:
    table = Table.grid(Column(width=9), Column())
    for at, line in enumerate(lines):
        table.add_row("" if at else name, Text(line))
    _show(console, table)


def _network(console: Console, network: Document, phases: list[Document]) -> None:
    _title(console, f"network {plain(network['backbone'], 60)}")
    cut, total = network["cut"], network["work"]
    if cut:
        below = network["work_below_cut"] / total if total else 0
        shape = "×".join(map(str, network["shape"]))
        _say(console, f"cut at {cut} ({shape}): {below:.0%} of the work lies below, and is done once", 2)
    else:
        _say(console, "not cut: fine-tuning starts from what is decoded", 2)
    _say(console, network["reason"], 2)
    thawed = [block for block in network["blocks"] if block["trainable"]]
    if thawed and any(phase["name"] == "fine_tune" for phase in phases):
        names = thawed[0]["name"] if len(thawed) == 1 else f"{thawed[0]['name']} to {thawed[-1]['name']}"
        _say(console, f"thawed: {names}, {len(thawed)} of {len(network['blocks'])} blocks", 2)
    known = sum(block["trainable"] for block in network["blocks"])
    share = f", of which {known:,} ({known / network['parameters']:.0%}) are thawed" if network["parameters"] else ""
    _say(console, f"{network['parameters']:,} parameters{share}; head {network['head_parameters']:,}", 2)


def _cache(console: Console, cache: Document) -> None:
    _title(console, "features")
    right = {"justify": "right"}
    names = [Column(name, **right) for name in ("views", "needed", "stored", "to compute", "bytes in all")]  # type: ignore[arg-type]
    table = Table("tensor", *names, box=None, pad_edge=False)
    for tensor in cache["tensors"]:
        numbers = [f"{tensor[name]:,}" for name in ("views", "needed", "stored", "missing")]
        table.add_row(Text(plain(tensor["tap"], 24)), *numbers, size(tensor["bytes"]))
    _show(console, table)
    if cache["examples_to_compute"]:
        told = f"{cache['examples_to_compute']:,} examples, {cache['passes_to_compute']:,} passes of the network"
        _say(console, f"to compute: {told} ({work(cache['work'])} multiply-adds), {size(cache['bytes_to_write'])}", 2)
    else:
        _say(console, "all is stored already: nothing is computed", 2)


def _phases(console: Console, phases: list[Document]) -> None:
    _title(console, "phases")
    names = ["parameters", "epochs", "forward", "backward", "in all"]
    table = Table("", *(Column(name, justify="right") for name in names), box=None, pad_edge=False)
    for phase in phases:
        epochs = phase["epochs"]
        span = _span(f"{epochs['low']:g}", f"{epochs['high']:g}")
        trainable = "by the words" if phase["trainable"] is None else f"{phase['trainable']:,}"
        told = f"{epochs['likely']:g}" + (f" ({span})" if span else "")
        numbers = [work(phase[name]) for name in ("forward_per_epoch", "backward_per_epoch", "work")]
        table.add_row(_stage(phase["name"]), trainable, told, *numbers)
    _show(console, table)
    _say(console, "forward and backward: multiply-adds of an epoch", 2)
    for phase in phases:
        _say(console, f"{_stage(phase['name'])} epochs: {phase['assumes']}", 2)


def _stage(name: str) -> str:
    return STAGES.get(name, name)


def _time(console: Console, time: Document, price: Document) -> None:
    _title(console, "time")
    table = Table(
        "", Column("", justify="right"), Column("", no_wrap=True), "", "", box=None, pad_edge=False, show_header=False
    )
    known = [stage["seconds"]["likely"] for stage in time["stages"] if stage["seconds"]]
    for stage in time["stages"]:
        seconds = stage["seconds"]
        if seconds is None:
            table.add_row(_stage(stage["name"]), "?", "", "", "not measured")
            continue
        span = _span(duration(seconds["low"]), duration(seconds["high"]))
        drawn = bar(seconds["likely"], max(known), 12)
        table.add_row(_stage(stage["name"]), duration(seconds["likely"]), drawn, span, SOURCES[stage["source"]])
    _show(console, table)
    total = time["total"]
    if total is None:
        _say(console, "in all: not known" + ("" if time["note"] else "; --calibration measures what is not"), 2)
    else:
        span = _span(duration(total["low"]), duration(total["high"]))
        _say(console, f"in all: {duration(total['likely'])}" + (f" ({span})" if span else ""), 2)
        _price(console, price)
    if time["note"]:
        _say(console, time["note"], 2)
    if time["last_run"]:
        _say(console, f"the last run: {time['last_run']}", 2)
    calibration = time["calibration"]
    if calibration:
        _say(console, f"measured in {duration(calibration['took'])}", 2)
        for note in calibration["notes"]:
            _say(console, note, 2)


def _price(console: Console, price: Document) -> None:
    hours, gpu = price["worker_hours"], price["gpu_hours"]
    kind = "GPU hours" if gpu else "worker hours"
    workers = plural(price["workers"], "worker")
    told = f"{kind}: {hours['likely']:.2g} ({hours['low']:.2g} to {hours['high']:.2g}), {workers}"
    if price["price"]:
        cost = price["price"]
        told += f"; price: {cost['likely']:.2f} ({cost['low']:.2f} to {cost['high']:.2f})"
    _say(console, told, 2)


def _memory(console: Console, memory: Document, workers: int) -> None:
    whose = "the worker" if workers == 1 else f"each of {workers} workers"
    _title(console, f"memory of {whose}: {size(memory['total'])}")
    parts = ["process", "parameters", "gradients", "optimizer", "checkpoints", "activations", "batches"]
    table = Table(
        "", Column("", justify="right"), Column("", no_wrap=True), box=None, pad_edge=False, show_header=False
    )
    for name in parts:
        if memory[name]:
            table.add_row(name, size(memory[name]), bar(memory[name], max(memory[part] for part in parts), 12))
    _show(console, table)
    _say(console, f"and {size(memory['features'])} of features on each node's disk, mapped: given back where needed", 2)


def _warnings(console: Console, warnings: list[Document]) -> None:
    count = len(warnings)
    _title(console, "no warnings" if not count else "1 warning" if count == 1 else f"{count} warnings")
    for warning in warnings:
        _say(console, Text.assemble("! ", (warning["setting"], "bold"), f": {plain(warning['text'])}"))
