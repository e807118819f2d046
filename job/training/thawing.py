"""`unfreeze: auto`: a loop over phases, each with one block more thawed than the one before, as long as that pays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import keras
import numpy as np

from job.config.training import BlockByBlock, FineTunePhase, UnfreezeBlocks
from job.model.freezing import blocks, depths, freeze, thaw
from job.run.events import BlockTried, Noted
from job.run.outcome import BlockVerdict
from job.training.checkpoint import Checkpoint, Tensors, values
from job.training.factory import PhaseFactory
from job.training.loop import train_phase
from job.training.measure import cross_entropies, share_of_gains
from job.training.phase import Phase


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning ends with; the variables are at their best."""

    phase: Phase
    """The last one."""
    last: Checkpoint
    """The last checkpoint of that phase."""
    improved: bool
    """Whether the best is better on the validation split than the head alone."""
    verdicts: tuple[BlockVerdict, ...] = ()
    """About each block that `unfreeze: auto` tried."""


def thaw_block_by_block(
    factory: PhaseFactory, settings: FineTunePhase, rule: BlockByBlock, *, state: Checkpoint
) -> FineTuned:
    """Each block is trained with those above it, from the best so far, as gradual unfreezing does, with lower rates for
    deeper blocks (Howard and Ruder 2018, "Universal Language Model Fine-tuning"). It stays thawed where the validation
    loss has fallen beyond noise; the first that does not is frozen again, as it was, and ends it.

    At least one block can train. `state` is the last checkpoint of the head, or one of this loop to go on from. What
    the loop finds again there is its verdicts, and the weights before the block that is being tried.
    """
    base, team = factory.network.base, factory.team
    names = [block.name for block in blocks(base)[::-1]]
    resumes = state.progress.phase == "fine_tune"
    verdicts = [BlockVerdict(**stored) for stored in state.caller.document["verdicts"]] if resumes else []
    for depth in depths(base, rule.max_blocks)[len(verdicts) :]:
        thaw(base, UnfreezeBlocks(blocks=depth))
        multipliers = _multipliers(base, depth, rule.rate_decay)
        phase = factory.fine_tune(settings, multipliers=multipliers, blocks=depth)
        if resumes:
            state, resumes = phase.resume(state), False
        else:
            team.emit(Noted(f"thawing {names[depth - 1]}, block {depth} of at most {rule.max_blocks}"))
            before, stored = values(phase.task.variables), [asdict(verdict) for verdict in verdicts]
            caller = state.caller.adding({"verdicts": stored}, {"before": before})
            state = phase.begin(replace(state, caller=caller))
        state = train_phase(phase, state)
        gain = _gain(phase, state.caller.tensors["before"], state.best, seed=factory.job.train.seed)
        pays = gain.share >= rule.confidence
        verdict = BlockVerdict(**gain._asdict(), blocks=depth, block=names[depth - 1], pays=pays)
        team.emit(BlockTried(verdict))
        verdicts = [*verdicts, verdict]
        if not pays:
            phase.assign(state.caller.tensors["before"])
            break
    kept = [verdict.blocks for verdict in verdicts if verdict.pays]
    freeze(base)
    if kept:
        thaw(base, UnfreezeBlocks(blocks=kept[-1]))
    return FineTuned(phase, state, improved=bool(kept), verdicts=tuple(verdicts))


class Gain(NamedTuple):
    """What a block gains on the validation split."""

    before: float
    """The loss without the block."""
    after: float
    share: float
    """The share of the resamples in which the loss has fallen."""


def _gain(phase: Phase, before: Tensors, after: Tensors, *, seed: int) -> Gain:
    """Leaves the variables at `after`."""
    examples = phase.data.splits["validation"]
    labels, weights = phase.data.labels[examples], phase.data.weights[examples]
    losses = []
    for tensors in (before, after):
        phase.assign(tensors)
        losses.append(cross_entropies(phase.predict(examples), labels))
    means = [float(np.average(of_model, weights=weights)) for of_model in losses]
    return Gain(means[0], means[1], share_of_gains(weights * (losses[0] - losses[1]), seed))


def _multipliers(base: keras.Model, depth: int, decay: float) -> dict[str, float]:
    """By layer: the head and the topmost block learn at the full rate."""
    top = blocks(base)[::-1][:depth]
    return {layer.name: decay**place for place, block in enumerate(top) for layer in block.layers}
