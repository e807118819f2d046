"""What the model of docs/scale.md says of runs that can't be had here, and how far it was from those that can.

python benchmarks/scale.py [--gpus l4 h100] [--measured FILE]

Printed are tables for 10⁶, 10⁷ and 10⁸ photographs on 1 to 1,000 workers with a GPU each: the recipe of the demo on
EfficientNet-Lite0. With FILE, what `benchmarks/fake_gpus.py --json FILE` measured is put beside the model, whose
constants of this machine are those of the runs with one and with two workers.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tables import markdown

from job.data.order import STREAMS
from job.planning.scale import Load, PhaseLoad, WorkerKind, epoch, modelled, start
from job.planning.worker_kinds import gpu_worker, without_gpu
from job.wording import duration

EXAMPLES, WORKERS = (10**6, 10**7, 10**8), (1, 8, 64, 1000)
OBJECT_BYTES, DECODE = 100_000, 5e-3
"""Of a photograph: its bytes, and seconds of a core until it has the network's size."""
PASS, POOLED, AT_CUT = 397_164_704, 5120, 18_816
"""Multiply-adds of the network, and bytes of its features, as `thaw plan` tells of them."""
HEAD = PhaseLoad("head", 328_450, 328_192, 656_384, 13, POOLED, on_cpus=True)
FINE_TUNE = PhaseLoad("fine_tune", 1_338_242, 50_176_192, 89_146_176, 10, AT_CUT)
OF_WORKER = 64
"""Examples of a worker's batch, where that makes a batch of LEAST or more."""
LEAST = 1024
PARTS = ("imports", "group", "restore")
"""Of a group's start, without its first step, which takes longer with more examples to validate on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", nargs="+", default=["l4", "h100"])
    parser.add_argument("--measured", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.measured:
        print(markdown(compared(json.loads(options.measured.read_text()))), end="\n\n")
    for gpu in options.gpus:
        print(f"{gpu}\n\n{markdown(_table(gpu))}\n")


def _table(gpu: str) -> list[list[str]]:
    rows = [["examples", "workers", "listing", "features", "head", "fine-tuning", "in all", "GPU hours", "most of it"]]
    for examples in EXAMPLES:
        for workers in WORKERS:
            kind = gpu_worker(gpu)
            stages = modelled(_load(examples, workers), kind, workers, on_cpus=without_gpu(kind, 1))
            seconds = {stage.name: stage.seconds for stage in stages}
            whole, longest = sum(seconds.values()), max(stages, key=lambda stage: stage.seconds)
            held = sum(stage.seconds for stage in stages if stage.gpus)
            shown = [duration(seconds[name]) for name in ("listing", "features", "head", "fine_tune")]
            most = f"{longest.name.replace('_', '-')}: {longest.bound}"
            rows.append(
                [f"{examples:,}", f"{workers:,}", *shown, duration(whole), f"{held * workers / 3600:,.1f}", most]
            )
    return rows


def _load(examples: int, workers: int) -> Load:
    train, held_out = round(0.7 * examples), round(0.15 * examples)
    return Load(
        objects=examples,
        counts={"train": train, "validation": held_out, "test": examples - train - held_out},
        undecoded=examples,
        decode=DECODE,
        object_bytes=OBJECT_BYTES,
        passes=examples,
        pass_work=PASS,
        feature_bytes=examples * (POOLED + AT_CUT),
        batch=max(LEAST, OF_WORKER * min(workers, STREAMS)),
        phases=[HEAD, FINE_TUNE],
    )


def compared(found: list[dict[str, Any]]) -> list[list[str]]:
    """The model beside what `fake_gpus.py` measured: needs one and two workers, of which it takes its constants."""
    by_workers = {one["workers"]: one for one in found}
    kind = fitted(by_workers[1], by_workers[2])
    rows = [["workers", "epoch, model", "measured", "", "start, model", "measured", ""]]
    for workers, one in sorted(by_workers.items()):
        modelled_epoch = sum(epoch(_fake_load(one), _fake_phase(one), kind, workers=workers).values())
        pairs = (modelled_epoch, _measured_epoch(one)), (start(kind, workers), _parts(one))
        shown = [[f"{model:.2f} s", f"{real:.2f} s", f"**{model / real:.2f}**"] for model, real in pairs]
        rows.append([str(workers), *shown[0], *shown[1]])
    return rows


def fitted(one: dict[str, Any], two: dict[str, Any]) -> WorkerKind:
    """This machine's constants, from its runs with one and with two workers: what a step costs beside its network,
    how fast gradients are exchanged, how long a group takes to start.
    """
    kind = WorkerKind(
        name="fake",
        work=one["rate"],
        cores=1,
        exchange=float("inf"),
        hop=0.0,
        storage=float("inf"),
        latency=0.0,
        step=0.0,
        start=_parts(one, ("group",)) / 2 + _parts(two, ("group",)) / 2,
        prepare=_parts(one, ("imports", "restore")) / 2 + _parts(two, ("imports", "restore")) / 2,
        another=0.0,
        shared=os.cpu_count() or 1,
    )
    phase = _fake_phase(one)
    alone = epoch(_fake_load(one), phase, replace(kind, step=1.0), workers=1)
    kind = replace(kind, step=(_measured_epoch(one) - alone["the network"]) / alone["steps' own cost"])
    together = epoch(_fake_load(two), phase, replace(kind, exchange=1.0), workers=2)
    left = _measured_epoch(two) - together["the network"] - together["steps' own cost"]
    if left <= 0:
        raise SystemExit("Two workers were as fast as they would be without a sum: measure on a quiet machine.")
    return replace(kind, exchange=together["the sum of the gradients"] / left)


def _fake_load(one: dict[str, Any]) -> Load:
    return Load(
        0,
        one["counts"],
        0,
        decode=0,
        object_bytes=0,
        passes=0,
        pass_work=0,
        feature_bytes=0,
        batch=one["batch"],
        phases=(),
    )


def _fake_phase(one: dict[str, Any]) -> PhaseLoad:
    """A network that sleeps takes as long for a validation as for a step."""
    return PhaseLoad("fine_tune", one["parameters"], 1, 0, 1, 0)


def _measured_epoch(one: dict[str, Any]) -> float:
    """The mean of the epochs that nothing happens to, without the first."""
    return sum(record["seconds"] for record in one["epochs"][1:3]) / 2


def _parts(one: dict[str, Any], parts: Sequence[str] = PARTS) -> float:
    """Seconds of these parts of a start: the mean of the first one and the one after the kill."""
    return sum(one[start][part] for start in ("start", "restart_parts") for part in parts) / 2


if __name__ == "__main__":
    main()
