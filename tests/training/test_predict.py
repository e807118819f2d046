"""Predictions of many workers: each one's are at its rank."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from job.training import step

WORKERS = 11
"""TensorFlow's order is that of names, in which 10 comes before 2."""
WORKER = """
import sys
import tensorflow as tf
from job.training.step import make_predict_steps
rank = int(sys.argv[1])
strategy = tf.distribute.MultiWorkerMirroredStrategy()
batches = tf.data.Dataset.from_tensors((tf.fill([2, 3], float(rank)),)).repeat()
spec = tf.data.IteratorSpec(batches.element_spec)
steps = make_predict_steps(strategy, spec, forward=lambda inputs, _: inputs, rank=rank)
found = steps(iter(batches), tf.constant(2))
print(found.shape.as_list(), found[:, 0, 0, 0].numpy().astype(int).tolist())
"""


def test_what_others_predict_is_put_in_the_order_of_their_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    order = [0, 10, 2]

    def gather(strategy: Any, mine: tf.Tensor) -> tf.Tensor:
        return tf.concat([mine * 0 + tf.cast(rank, mine.dtype) for rank in order], axis=0)

    monkeypatch.setattr(step, "_gather", gather)
    batches = tf.data.Dataset.from_tensors((tf.ones([4, 2]),)).repeat()
    spec = tf.data.IteratorSpec(batches.element_spec)
    steps = step.make_predict_steps(tf.distribute.get_strategy(), spec, forward=lambda inputs, _: inputs, rank=10)
    found = steps(iter(batches), tf.constant(3)).numpy()
    assert found.shape == (3, 3, 4, 2)
    assert [np.unique(part).tolist() for part in found] == [[0], [2], [10]]


@pytest.mark.slow
def test_more_workers_than_ten() -> None:
    sockets = [socket.socket() for _ in range(WORKERS)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()

    def start(rank: int) -> subprocess.Popen[str]:
        settings = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
        environment = {**os.environ, "TF_CONFIG": settings, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-c", WORKER, str(rank)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    workers = [start(rank) for rank in range(WORKERS)]
    try:
        printed = [worker.communicate(timeout=600)[0].splitlines()[-1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert printed == [f"{[WORKERS, 2, 2, 3]} {list(range(WORKERS))}"] * WORKERS
