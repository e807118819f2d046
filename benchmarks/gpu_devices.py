"""The cases of gpu.py that ask the GPU alone: what TensorFlow finds, what its first use takes, and its memory."""

from __future__ import annotations

import resource
import subprocess
import time
from dataclasses import replace

import numpy as np
from gpu_case import Case, CaseProcess, Row, compared, job_of, shown
from gpu_networks import Prepared, bare_network, noise

from job.executors.placement import cpus_here, named_gpus
from job.libraries import import_tensorflow
from job.run.identity import prepare_base
from job.run.strategy import prepare_process
from job.storage import open_store
from job.storage.scratch import scratch

SIDE = 512
"""Of the matrices that the first use multiplies."""


def device(case: Case) -> list[Row]:
    """The GPUs that TensorFlow finds, as a worker's process is set up. Fails where it finds none."""
    prepare_process(job_of(case, "/nowhere"), cpus_here())
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    found = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [Row(case.kind, {}, "GPUs", {"TensorFlow": len(gpus)}, more={"devices": found})]


def first_use(case: Case) -> list[Row]:
    """The seconds of a process's first product of matrices and first convolution, and of the second ones. Where the
    wheel has no kernels for the GPU, the driver compiles them in the first.
    """
    prepare_process(job_of(case, "/nowhere"), cpus_here())
    import tensorflow as tf

    def multiply() -> None:
        matrix = tf.ones((SIDE, SIDE))
        tf.matmul(matrix, matrix).numpy()

    def convolve() -> None:
        tf.nn.conv2d(tf.ones((8, 32, 32, 16)), tf.ones((3, 3, 16, 16)), 1, "SAME").numpy()

    rows = []
    for name, use in (("matrices", multiply), ("convolution", convolve)):
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            use()
            seconds.append(time.perf_counter() - began)
        row = compared(case, "s", {"first": seconds[0], "second": seconds[1]})
        rows.append(replace(row, settings={"operation": name}))
    return rows


def memory(case: Case) -> list[Row]:
    """What a process holds that has run a network, and whether another one can start beside it."""
    import_tensorflow()
    with scratch() as folder:
        job = job_of(case, folder)
        if case.growth:
            prepare_process(job, cpus_here())
        store = open_store(job.store)
        base, _ = prepare_base(job, store, lambda event: None)
        run = bare_network(Prepared(job, store, base, [], [], ()), xla=False)
        run(noise(case, case.batch)).numpy()
    second = CaseProcess(replace(case, kind="second_process"), leads=False).ended()
    more = {"another_process_beside_it": second.failed or "works"}
    if not case.gpu:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return [Row(case.kind, shown(case), "MiB", {"process": most}, more=more, note="main memory: there is no GPU")]
    import tensorflow as tf

    taken = tf.config.experimental.get_memory_info("GPU:0")
    sides = {"held": _held(), "tensors at most": taken["peak"] / 2**20}
    return [compared(case, "MiB", sides, more=more)]


def second_process(case: Case) -> list[Row]:
    """Sets up as the product does, and multiplies."""
    prepare_process(job_of(case, "/nowhere"), cpus_here())
    import tensorflow as tf

    matrix = tf.constant(np.ones((SIDE, SIDE), np.float32))
    product = float(tf.matmul(matrix, matrix)[0, 0])
    assert product == SIDE, f"the product of two matrices of ones is {product}"
    return [Row(case.kind, {}, "", {"product": product})]


def _held() -> float:
    """MiB of the first GPU that are in use, by whomever, as the driver says."""
    first = (named_gpus() or ["0"])[0]
    command = ["nvidia-smi", f"--id={first}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
