"""The order in which examples are seen: pure arithmetic on (seed, epoch, sizes).

A global batch holds the same examples whatever the number of workers; every worker makes the same number of
steps, and the last batch is padded with -1 (an example of weight 0), never dropped.
"""

from __future__ import annotations

import numpy as np


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0…examples-1, int64 [examples], of (seed, epoch)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(examples)


def steps_per_epoch(examples: int, global_batch_size: int) -> int:
    return -(-examples // global_batch_size)


def local_batch_size(global_batch_size: int, world_size: int) -> int:
    return -(-global_batch_size // world_size)


def global_batch(order: np.ndarray, step: int, global_batch_size: int) -> np.ndarray:
    """The examples of one step over all workers, int64 [≤ global_batch_size]."""
    return order[step * global_batch_size : (step + 1) * global_batch_size]


def local_batch(batch: np.ndarray, global_batch_size: int, rank: int, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A worker's examples of a global batch, and their positions in it: two int64 [local batch size].

    Missing examples are -1; their positions repeat the last one and mean nothing.
    """
    size = local_batch_size(global_batch_size, world_size)
    positions = rank * size + np.arange(size)
    present = positions < len(batch)
    examples = np.where(present, batch[np.minimum(positions, len(batch) - 1)], -1)
    return examples, np.minimum(positions, global_batch_size - 1)
