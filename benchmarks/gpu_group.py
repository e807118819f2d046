"""The case of gpu.py with several workers: the sum of vectors over all of them, as the product forms its groups."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_case import Case, CaseProcess, Ended, Row, in_turns, job_of

from job.executors.placement import cpus_here, named_gpus
from job.run.strategy import free_addresses, join_group, make_strategy, prepare_process

if TYPE_CHECKING:
    import tensorflow as tf

EVERY = 0.2
"""Seconds between two looks at the processes."""
NCCL = re.compile(r"NCCL version (\S+)")


def all_reduce(case: Case) -> list[Row]:
    """Starts the workers, each with a GPU of its own; the rows are those of the first one."""
    addresses = free_addresses("127.0.0.1", case.workers)
    visible = named_gpus() or [str(number) for number in range(case.workers)]
    members = [
        CaseProcess(
            replace(case, kind="member", rank=rank, addresses=addresses),
            {"NCCL_DEBUG": "VERSION", **({"CUDA_VISIBLE_DEVICES": visible[rank]} if case.gpu else {})},
            leads=False,
        )
        for rank in range(case.workers)
    ]
    ended = _all_ended(members)
    version = NCCL.search("\n".join(one.output for one in ended))
    more = {"nccl": version[1] if version else "not told by NCCL_DEBUG=VERSION"} if case.gpu else {}
    return [replace(row, more={**row.more, **more}) for row in ended[0].rows]


def member(case: Case) -> list[Row]:
    """One of the workers."""
    job = job_of(case, "/nowhere")
    join_group(list(case.addresses), case.rank)
    prepare_process(job, max(1, cpus_here() // case.workers))
    strategy = make_strategy(job, case.workers)
    rows = []
    for mebibytes in case.mebibytes:
        (seconds,) = in_turns([_sum(strategy, mebibytes, case.workers)], case.rounds)
        bus = 2 * (case.workers - 1) / case.workers * mebibytes * 2**20 / seconds / 1e9
        settings = {"workers": case.workers, "by": "NCCL" if case.gpu else "RING", "mebibytes": mebibytes}
        rows.append(Row("all_reduce", settings, "GB/s", {"bus": bus}, more={"seconds": seconds}))
    return rows


def _sum(strategy: tf.distribute.Strategy, mebibytes: int, workers: int) -> Callable[[], None]:
    """Adds up a vector of float32 over all workers, and waits for it. Raises AssertionError where the sum is wrong."""
    import tensorflow as tf

    vector = tf.ones([mebibytes * 2**18])

    def add(value: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    @tf.function(autograph=False)
    def last(value: tf.Tensor) -> tf.Tensor:
        return strategy.run(add, (value,))[-1]

    def run() -> None:
        total = float(last(vector))
        assert total == workers, f"the sum of {workers} ones is {total}"

    return run


def _all_ended(members: Sequence[CaseProcess]) -> list[Ended]:
    """Waits for all. Raises RuntimeError where one fails, and ends the others, which would wait for it."""
    while any(member.code is None for member in members) and not any(member.code for member in members):
        time.sleep(EVERY)
    failed = next((rank for rank, member in enumerate(members) if member.code), None)
    for member in members if failed is not None else ():
        member.end()
    ended = [member.ended() for member in members]
    if failed is not None:
        raise RuntimeError(f"worker {failed}: {ended[failed].failed}")
    return ended
