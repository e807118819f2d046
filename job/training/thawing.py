"""`unfreeze: auto`: one block after another is thawed, from the top, as long as that pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from job.config.training import BlockByBlock, UnfreezeBlocks
from job.features.dataset import Dataset
from job.model.freezing import blocks, depths, freeze, thaw
from job.model.network import Network
from job.run.events import BlockTried, Noted
from job.training.checkpoint import Checkpoint, Progress, Tensors, Thawing
from job.training.loop import Phase
from job.training.measure import cross_entropies, share_of_gains
from job.training.phase_task import WorkerContext

MakePhase = Callable[[dict[str, float], int], Phase]
"""(learning rates by layer, epochs made before) -> fine-tuning of all that is thawed now."""


@dataclass(frozen=True)
class Thawed:
    """What it came to."""

    last: Checkpoint
    phase: Phase
    """The last one, with the variables as they are best."""
    improved: bool
    """Whether that is better on the validation split than the head alone."""
    decided: tuple[dict[str, Any], ...]
    """About each block that `unfreeze: auto` tried."""


def thaw_block_by_block(
    rule: BlockByBlock,
    network: Network,
    make_phase: MakePhase,
    data: Dataset,
    team: WorkerContext,
    seed: int,
    progress: Progress,
    head: Tensors,
    resumed: Checkpoint | None,
) -> Thawed:
    """Each block is trained with those above it, from the best so far, as gradual unfreezing does, with lower rates for
    deeper blocks (Howard and Ruder 2018, "Universal Language Model Fine-tuning"). It stays thawed where the validation
    loss has fallen beyond noise; the first that does not is frozen again, as it was, and ends it.

    At least one block of `network.base` can train. `progress` is how far training has come, `head` the
    converged head, and `resumed` the state to go on from, where there is one.
    """
    names = [block.name for block in blocks(network.base)[::-1]]
    decided = progress.thawing.decided if progress.thawing else ()
    paid, slots = decided[-1]["blocks"] if decided else 0, Tensors()
    for depth in depths(network.base, rule.max_blocks)[len(decided) :]:
        thaw(network.base, UnfreezeBlocks(blocks=depth))
        after = progress.thawing.after if resumed and progress.thawing else _epochs(progress)
        phase = make_phase(_rates(network, depth, rule.rate_decay), after)
        if resumed is not None:
            state = phase.resume(resumed)
        else:
            team.emit(Noted(f"thawing {names[depth - 1]}, block {depth} of at most {rule.max_blocks}"))
            state = phase.begin(progress, head, Thawing(depth, after, decided), slots)
        last = phase.run(state)
        verdict = _weighed(phase, last, data, seed) | {"blocks": depth, "block": names[depth - 1]}
        verdict["pays"] = verdict["share"] >= rule.confidence
        decided, progress, slots, resumed = (*decided, verdict), last.progress, last.optimizer, None
        team.emit(BlockTried(**verdict))
        if not verdict["pays"]:
            phase.take(last.before)
            break
        paid = depth
    freeze(network.base)
    if paid:
        thaw(network.base, UnfreezeBlocks(blocks=paid))
    return Thawed(last, phase, paid > 0, decided)


def _weighed(phase: Phase, last: Checkpoint, data: Dataset, seed: int) -> dict[str, Any]:
    """The validation loss before and after, and in what share of resamples it is lower; leaves the variables at their
    best.
    """
    examples = data.splits["validation"]
    labels, weights = data.labels[examples], data.weights[examples]
    losses = []
    for tensors in (last.before, last.best):
        phase.take(tensors)
        losses.append(cross_entropies(phase.predict(examples), labels))
    before, after = (float(np.average(some, weights=weights)) for some in losses)
    gains = weights * (losses[0] - losses[1])
    return {"before": before, "after": after, "share": share_of_gains(gains, seed)}


def _rates(network: Network, depth: int, decay: float) -> dict[str, float]:
    """By layer: the head and the topmost block learn at the full rate."""
    top = blocks(network.base)[::-1][:depth]
    return {layer.name: decay**place for place, block in enumerate(top) for layer in block.layers}


def _epochs(progress: Progress) -> int:
    """Epochs of fine-tuning so far."""
    return sum(1 for record in progress.history["fine_tune"] if record["epoch"])
