"""Sets up the process of a worker: devices, determinism, threads, precision and the distribution strategy."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from job.config import Job
from job.errors import ClusterError
from job.libraries import import_tensorflow, no_stderr
from job.run.fake_gpu import fake_rate
from job.run.proxies import bypass_proxies, host_of

if TYPE_CHECKING:
    import tensorflow as tf

INTER_OP, INTER_OP_THREADS = 2, "TF_NUM_INTEROP_THREADS"
"""Threads that run independent ops side by side, and TensorFlow's environment variable for it, which users may set."""


def free_addresses(host: str, count: int = 1) -> list[str]:
    """Free addresses of this machine, `host:port` (`[host]:port` for IPv6), where nobody listens now."""
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        probes = [stack.enter_context(socket.socket(family)) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        ports = [probe.getsockname()[1] for probe in probes]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for port in ports]


def join_group(addresses: list[str], rank: int) -> None:
    """Makes this process the worker of this rank (from `make_strategy` on). Workers are exempt from proxies."""
    bypass_proxies(map(host_of, addresses))
    where = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    os.environ["TF_CONFIG"] = json.dumps(where)


def group_addresses() -> list[str]:
    """The addresses of this process's group of workers, by rank."""
    return json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]


def prepare_process(job: Job, cpus: int) -> None:
    """Sets up TensorFlow. To be called before it runs anything in this process, since threads and the GPU's memory
    can't be changed afterwards.

    Raises ClusterError where the job needs GPUs and TensorFlow finds none: it would train on the CPU at a GPU's price.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import_tensorflow()
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    with no_stderr():  # where there is no driver, CUDA says so
        gpus = tf.config.list_physical_devices("GPU")
    if has_gpu(job) and not gpus:
        raise ClusterError(
            f"scaling.gpu: true, and TensorFlow finds no GPU on {socket.gethostname()} "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}): {_why_no_gpu()}. "
            "Set scaling.gpu: false to train on CPUs."
        )
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(cpus)
        tf.config.threading.set_inter_op_parallelism_threads(int(os.environ.get(INTER_OP_THREADS) or INTER_OP))
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(job.train.seed)
    if is_deterministic(job):
        tf.config.experimental.enable_op_determinism()
    else:
        disable_op_determinism()


@contextmanager
def precision(job: Job) -> Iterator[None]:
    """Layers that are built within the `with` block compute in `train.precision`."""
    import_tensorflow()
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(job.train.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _why_no_gpu() -> str:
    """The reason why there is no GPU, from TensorFlow's build and NVIDIA's driver."""
    import tensorflow as tf

    built = tf.sysconfig.get_build_info()
    if not built["is_cuda_build"]:
        return "this TensorFlow is built without CUDA: install tensorflow[and-cuda], in place of tensorflow-cpu"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"NVIDIA's driver is not there ({error}): the node needs it, and the pod has to ask for nvidia.com/gpu"
    if code := driver.cuInit(0):
        name = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(name))
        error_name = (name.value or b"an unknown error").decode()
        return (
            f"NVIDIA's driver answers {error_name} ({code}): run nvidia-smi on that node, and restart it or its driver"
        )
    return (
        f"NVIDIA's driver answers, but TensorFlow's libraries of CUDA {built['cuda_version']} are missing or too new "
        "for it: install tensorflow[and-cuda], or a newer driver"
    )


def has_gpu(job: Job) -> bool:
    """Whether each worker of the job has a GPU that is one."""
    return job.scaling.gpu and fake_rate(job) is None


def is_deterministic(job: Job) -> bool:
    setting = job.train.deterministic
    return not job.scaling.gpu if setting == "auto" else setting


def use_jit(job: Job, depthwise: bool) -> bool:
    """Whether to compile with XLA. `auto` is off on CPUs, where XLA makes steps of depthwise networks 8 to 20 times
    slower.
    """
    setting = job.train.jit_compile
    if fake_rate(job) is not None:
        return False  # XLA can't sleep
    return job.scaling.gpu and not depthwise if setting == "auto" else setting


def make_strategy(job: Job, world_size: int) -> tf.distribute.Strategy:
    """The strategy of synchronous data parallelism over the workers in TF_CONFIG, one device each. A single worker
    needs no servers.
    """
    import tensorflow as tf

    if world_size == 1:
        return tf.distribute.get_strategy()
    communication = tf.distribute.experimental.CommunicationImplementation
    implementation = communication.NCCL if has_gpu(job) else communication.RING
    options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
