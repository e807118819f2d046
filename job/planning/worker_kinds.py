"""Workers by their GPU, for the model of a run: published figures times what is assumed to come of them.

Nothing of the GPUs was measured by us. `peak` is the dense rate of the tensor cores in 16 bits, as NVIDIA's data sheets
state it; cores, network and storage are a GPU's part of a usual machine of the clouds that has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from job.planning.scale import WorkerKind

TERA, GIGA = 1e12, 1e9
OF_PEAK = 0.15
"""What of the peak convolutions of this kind are assumed to reach; `benchmarks/gpu.sh` measures it."""
OF_LINE = 0.6
"""What of a network's bandwidth the sum of the gradients is assumed to reach."""
CPU_WORK = 4e10
"""Multiply-adds a second of a core, in the matrices of a head: 49,000 examples twice in 1.9 s, as
benchmarks/fake_gpus.py has it with one worker, are 4.5e10 of them."""
HOP, LATENCY, STEP, ANOTHER = 50e-6, 0.1, 2e-3, 0.05
"""Seconds: of a message between nodes; until a bucket begins to answer; of a step beside its network; and of the
driver, for each worker that it starts beside the first."""
START, PREPARE = 5.0, 10.0
"""Seconds of a group's start on nodes that are there, as benchmarks/fake_gpus.py found it, with the first step's
compilation."""


class Gpu(NamedTuple):
    peak: float
    """Floating-point operations a second (10¹²), two for a multiply-add."""
    cores: int
    line: float
    """GB a second between nodes."""
    storage: float
    """GB a second from a bucket."""
    machine: str


GPUS = {
    "t4": Gpu(65, 8, 0.6, 0.6, "g4dn.2xlarge, n1-standard-8"),
    "l4": Gpu(121, 8, 1.2, 1.0, "g6.2xlarge, g2-standard-8"),
    "a10g": Gpu(70, 8, 1.2, 1.0, "g5.2xlarge"),
    "v100": Gpu(125, 8, 1.2, 1.2, "p3.2xlarge"),
    "a100": Gpu(312, 12, 6.0, 1.5, "p4d.24xlarge, a2-highgpu"),
    "h100": Gpu(989, 24, 25.0, 3.0, "p5.48xlarge, a3-highgpu"),
    "h200": Gpu(989, 24, 50.0, 3.0, "p5en.48xlarge, a3-ultragpu"),
    "b200": Gpu(2250, 24, 50.0, 3.0, "p6-b200.48xlarge, a4-highgpu"),
}


def gpu_worker(name: str) -> WorkerKind:
    """A worker with one GPU of this name, one of GPUS."""
    gpu = GPUS[name]
    return WorkerKind(
        name=name,
        work=gpu.peak * TERA / 2 * OF_PEAK,
        cores=gpu.cores,
        exchange=gpu.line * GIGA * OF_LINE,
        hop=HOP,
        storage=gpu.storage * GIGA,
        latency=LATENCY,
        step=STEP,
        start=START,
        prepare=PREPARE,
        another=ANOTHER,
    )


def without_gpu(kind: WorkerKind, cores: int) -> WorkerKind:
    """The same worker without its GPU, that multiplies on so many cores."""
    return replace(kind, name=f"{cores} cores", work=CPU_WORK * cores, cores=cores)
