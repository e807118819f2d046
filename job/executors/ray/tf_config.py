"""Connects Ray Train's workers by TF_CONFIG, as `tf.distribute` expects.

Ray's own backend does the same, but unpickling it imports TensorFlow, which would delay Ray's controller (it starts the
workers) and the driver.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

from job.run.strategy import free_addresses, join_group


class GroupConfig(BackendConfig):
    @property
    def backend_cls(self) -> type[Backend]:
        return _Group


class _Group(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Connects the workers of a new group, before their function is called. A single worker needs no connection."""
        addresses = worker_group.execute(_address)
        if len(addresses) == 1:
            return
        joining = [
            worker_group.execute_single_async(rank, join_group, addresses, rank) for rank in range(len(addresses))
        ]
        ray.get(joining)


def _address() -> str:
    return free_addresses(ray.util.get_node_ip_address())[0]
