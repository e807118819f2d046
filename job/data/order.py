"""The order in which examples are seen: pure arithmetic on (seed, epoch, sizes).

An epoch permutes the shards, deals their sequence to a fixed number of streams and permutes each stream in windows;
place p of a batch belongs to stream p. A worker reads whole streams, so each shard is read by one worker (but for those
that the end of a stream cuts in two), and a global batch holds the same examples whatever the number of workers. Every
worker makes the same number of steps; the last batch is padded with examples of weight 0, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHARD = 256
"""Examples of a shard, at most."""
WINDOW = 512
"""Examples of a stream that are permuted among each other."""
STREAMS = 64
"""The most streams, and so the most workers: further ones would be idle."""
SHARDS_PER_STREAM = 8
"""Small data is cut into smaller shards, so that this many make a stream: the fewer there are, the less is random."""


def shard_size(examples: int) -> int:
    """Examples of a shard of a data set of this size."""
    return min(max(examples // (STREAMS * SHARDS_PER_STREAM), 1), SHARD)


def epoch_order(sizes: np.ndarray, global_batch_size: int, seed: int, *, epoch: int) -> np.ndarray:
    """The examples 0…n-1 in the order of an epoch, int32 [n]; n is the sum of `sizes`, the shards' int64 [shards].

    Takes 8 bytes an example while it is made, and keeps 4.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    ends = np.cumsum(sizes)
    examples = int(ends[-1])
    shards = random.permutation(len(sizes))
    lengths = sizes[shards]
    jumps = (ends - sizes)[shards] - (np.cumsum(lengths) - lengths)
    sequence = np.repeat(jumps.astype(np.int32), lengths)
    sequence += np.arange(examples, dtype=np.int32)
    streams = stream_count(global_batch_size)
    order = np.empty_like(sequence)
    start = 0
    for stream in range(streams):
        end = start + -(-(examples - stream) // streams)
        for window in range(start, end, WINDOW):
            random.shuffle(sequence[window : min(window + WINDOW, end)])
        order[stream::streams] = sequence[start:end]
        start = end
    return order


def stream_count(global_batch_size: int) -> int:
    return min(global_batch_size, STREAMS)


def steps_per_epoch(examples: int, global_batch_size: int) -> int:
    return -(-examples // global_batch_size)


def mixup_partners(in_order: np.ndarray, examples: int, global_batch_size: int) -> np.ndarray:
    """For each of `in_order` (places in an epoch's order of `examples` examples), the place of its mixup partner: the
    next example of the same stream, or at the end the one before. A stream of one example pairs it with itself.
    """
    streams = stream_count(global_batch_size)
    before = np.where(in_order >= streams, in_order - streams, in_order)
    return np.where(in_order + streams < examples, in_order + streams, before)


def mixing_shares(examples: int, alpha: float, seed: int, *, epoch: int) -> np.ndarray:
    """The share of itself that each example of an epoch keeps in mixup, float32 [n], drawn from Beta(alpha, alpha).

    Each is at least a half: the larger of a draw and its complement.
    """
    drawn = np.random.Generator(np.random.Philox(key=[seed, epoch])).beta(alpha, alpha, examples)
    return np.maximum(drawn, 1 - drawn).astype(np.float32)


@dataclass(frozen=True)
class WorkerShare:
    """A worker's part of the global batches of an epoch: the streams `rank`, `rank + world_size`, …"""

    global_batch_size: int
    rank: int
    world_size: int

    @property
    def size(self) -> int:
        """The examples of a local batch: the most that any worker has in any step."""
        streams = stream_count(self.global_batch_size)
        first = np.arange(streams)[:, None]  # each way in which the places of a batch can meet the streams
        owners = (first + np.arange(self.global_batch_size)) % streams % self.world_size
        return int(max((owners == rank).sum(axis=1).max() for rank in range(min(self.world_size, streams))))

    def places(self, examples: int, first_step: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The places of this worker's examples of these steps in the epoch's order, and in their global batches.

        Returns two int32 [steps, size]. Missing examples are -1, and their place in the batch means nothing.
        """
        size, streams = self.size, stream_count(self.global_batch_size)
        begins = (first_step + np.arange(steps)[:, None]) * self.global_batch_size
        everyone = begins + np.arange(self.global_batch_size)
        owned = (everyone % streams % self.world_size == self.rank) & (everyone < examples)
        in_order = np.full((steps, size), -1, np.int32)
        step, place = np.nonzero(owned)
        column = np.arange(len(step)) - np.repeat(np.cumsum(owned.sum(axis=1)) - owned.sum(axis=1), owned.sum(axis=1))
        in_order[step, column] = everyone[step, place]
        return in_order, np.maximum(in_order - begins, 0).astype(np.int32)
