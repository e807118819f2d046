"""The process a worker is: determinism, threads, precision and the distribution strategy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from job.config import Job

if TYPE_CHECKING:
    import tensorflow as tf


def prepare_process(job: Job, cpus: int) -> None:
    """Call before TensorFlow has run anything in this process.

    Ray's TensorFlow backend asks for legacy Keras in its workers; this project is written for Keras 3.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.utils.set_random_seed(job.train.seed)
    if is_deterministic(job):
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(job.train.precision)


def is_deterministic(job: Job) -> bool:
    wanted = job.train.deterministic
    return not job.scaling.gpu if wanted == "auto" else wanted


def use_jit(job: Job, depthwise: bool) -> bool:
    """XLA makes a step of a depthwise network 8 to 20 times slower on CPUs, so `auto` is off there."""
    wanted = job.train.jit_compile
    return job.scaling.gpu and not depthwise if wanted == "auto" else wanted


def make_strategy(job: Job) -> tf.distribute.Strategy:
    """Synchronous data parallelism over the workers in TF_CONFIG, one device each."""
    import tensorflow as tf

    communication = tf.distribute.experimental.CommunicationImplementation
    implementation = communication.NCCL if job.scaling.gpu else communication.RING
    options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
