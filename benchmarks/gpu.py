"""What one or more NVIDIA GPUs do with Thaw's own code, beside bare loops of Keras and TensorFlow: a table, and one
JSON document with all that is needed to read it elsewhere.

benchmarks/gpu.sh [--out gpu.json]            sets up an environment with CUDA's libraries, and runs this in it
python benchmarks/gpu.py [--out gpu.json] [--only KIND …] [--timeout 1800] [--quick]
python benchmarks/gpu.py --cpu --quick        tries the command itself, without any GPU

The kinds, each case in a process of its own (docs/gpus.md says what is compared):
    device      what TensorFlow finds; the command ends with 6 where that is no GPU
    first_use   the first operations of a process, which take long where the driver has to compile them
    extraction  examples a second through the frozen network: EfficientNet-Lite0 and ResNet50, float32 and bfloat16
    fine_tune   steps a second of the trainer: the same networks and types, XLA off and on
    prefetch    steps a second of a bare loop that reads ahead, and of one that doesn't
    memory      what a process holds with memory growth and without, and whether another one can start beside it
    all_reduce  vectors added up over as many workers as GPUs

FILE is written again after each case. A case that fails is a row with its reason; the command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from gpu_case import Case, CaseProcess, Row
from gpu_machine import NO_GPU, machine
from tables import markdown

KINDS = ("device", "first_use", "extraction", "fine_tune", "prefetch", "memory", "all_reduce")
BACKBONES = ("efficientnet_lite0", "resnet50")
PRECISIONS = ("float32", "mixed_bfloat16")
ONLY_CPUS = "These are figures of CPUs, in a tiny size: they show that the command works, and nothing of any GPU."


class Sizes(NamedTuple):
    """How much is measured."""

    image_size: int
    examples: int
    """Of a call of extraction."""
    batches: tuple[int, int]
    """Those of extraction; the first is the product's."""
    batch: int
    """Of a training step."""
    steps: int
    """Of an epoch, at most."""
    rounds: int
    mebibytes: tuple[int, ...]


WHOLE = Sizes(224, 1024, (32, 256), 64, 256, 9, (1, 16, 64, 256))
QUICK = Sizes(64, 8, (4, 8), 4, 2, 1, (1,))


def main() -> None:
    options = _options()
    about = machine(gpu=not options.cpu)
    workers = 2 if options.cpu else len(about["gpus"])
    document: dict[str, Any] = {
        "device": "cpu" if options.cpu else "gpu",
        "quick": options.quick,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": about,
        "rows": [],
    }
    print(json.dumps(about, indent=1), flush=True)
    began = time.monotonic()
    for case in cases(QUICK if options.quick else WHOLE, gpu=not options.cpu, workers=workers):
        if case.kind not in options.only:
            continue
        rows = _measured(case, options.timeout)
        document["rows"] += map(asdict, rows)
        document["seconds"] = round(time.monotonic() - began)
        options.out.write_text(json.dumps(document, indent=1) + "\n")
        if case.kind == "device" and rows[0].failed:
            print(f"\n{rows[0].failed}\nNothing else was measured.", file=sys.stderr)
            sys.exit(NO_GPU)
    found = [Row(**row) for row in document["rows"]]
    print(f"\n{ONLY_CPUS if options.cpu else _gpus_in_words(about)}\n\n{table(found)}\n\n{options.out} has all of it.")


def cases(sizes: Sizes, *, gpu: bool, workers: int) -> Iterator[Case]:
    """All cases, in their order."""
    plain = Case("device", gpu, sizes.image_size, sizes.batch, sizes.steps, sizes.rounds)
    for kind in ("device", "first_use"):
        yield replace(plain, kind=kind)
    networks = [
        replace(plain, backbone=backbone, precision=precision) for backbone, precision in product(BACKBONES, PRECISIONS)
    ]
    for network in networks:
        for batch, xla in ((sizes.batches[0], False), (sizes.batches[0], True), (sizes.batches[1], False)):
            yield replace(network, kind="extraction", batch=batch, xla=xla, steps=sizes.examples // batch)
    for network in networks:
        for xla in (False, True):
            yield replace(network, kind="fine_tune", xla=xla)
    for network in networks[::2]:
        yield replace(network, kind="prefetch")
    for growth in (True, False):
        yield replace(plain, kind="memory", growth=growth)
    yield replace(plain, kind="all_reduce", workers=workers, mebibytes=sizes.mebibytes)


def table(rows: Sequence[Row]) -> str:
    """Markdown, a line for each row."""
    lines = [["case", "settings", "unit", "figures", "ratio", "note"]]
    for row in rows:
        settings = ", ".join(
            value if isinstance(value, str) else f"{name} {value}" for name, value in row.settings.items()
        )
        figures = ", ".join(f"{side} {figure:.4g}" for side, figure in row.sides.items())
        more = [f"{name}: {value:.3g}" if isinstance(value, float) else "" for name, value in row.more.items()]
        beside = row.more.get("another_process_beside_it")
        note = [row.failed and f"failed: {row.failed}", row.note, *more, beside and f"another process beside: {beside}"]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append([row.kind, settings, row.unit, figures, ratio, "; ".join(filter(None, note))])
    return markdown(lines)


def _measured(case: Case, timeout: float) -> list[Row]:
    """The rows of a case, which are told as they come."""
    if case.kind == "all_reduce" and case.workers < 2:
        rows = [Row(case.kind, {"workers": case.workers}, note="not measured: one GPU has nobody to add up with")]
    else:
        rows = CaseProcess(case).ended(timeout).rows
    print("\n".join(table(rows).splitlines()[2:]), flush=True)
    return rows


def _gpus_in_words(about: dict[str, Any]) -> str:
    return "; ".join(
        f"{gpu['name']} (compute capability {gpu['compute_capability']}, {gpu['memory']}, driver {gpu['driver']})"
        for gpu in about["gpus"]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a case may take")
    parser.add_argument("--quick", action="store_true", help="a tiny size: does the command work here?")
    parser.add_argument("--cpu", action="store_true", help="on CPUs, with a ring instead of NCCL")
    return parser.parse_args()


if __name__ == "__main__":
    main()
