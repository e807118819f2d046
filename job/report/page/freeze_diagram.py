"""The freeze diagram: which layers trained, which were computed once, and where the network is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from job.evaluation.run_documents import Documents
from job.features.cache_plan import Plan
from job.features.store import storage_type
from job.report.page.charts import block_strip
from job.run.outcome import BlockVerdict
from job.wording import plural

STYLES = {"once": "computed once, then read", "again": "frozen, computed in every epoch", "trained": "trained"}


@dataclass(frozen=True)
class BlockRow:
    name: str
    layers: int
    parameters: int
    trainable: int
    style: str
    cut: bool


@dataclass(frozen=True)
class FreezeDiagram:
    rows: list[BlockRow]
    """From the head down to the input; empty where the run did not write them down."""
    strip: Markup | None
    cut: str
    """In a sentence."""
    reason: str | None
    """Why the plan cuts there."""
    trained: dict[str, int]
    """Parameters that trained, by phase."""
    thawed: list[BlockVerdict]
    """What `unfreeze: auto` decided about each block."""

    @property
    def most(self) -> int:
        """Parameters of the largest block."""
        return max((row.parameters for row in self.rows), default=0) or 1


def network_of(documents: Documents) -> FreezeDiagram:
    training, plan = documents.training, documents.plan
    blocks, tuned = training.blocks, training.history.get("fine_tune")
    cut = next((place for place, block in enumerate(blocks) if block.cut), None)
    rows = []
    for place, block in enumerate(blocks):
        stored = not tuned or (cut is not None and place <= cut)
        style = "trained" if block.trainable else "once" if stored else "again"
        rows.append(BlockRow(block.block, block.layers, block.parameters, block.trainable, style, place == cut))
    description, strip = _description(rows, documents), None
    if rows:
        named = [(f"{row.name}: {row.parameters:,} parameters, {STYLES[row.style]}", row.style) for row in rows]
        strip = block_strip(description, named, cut)
    reason = plan.reason if plan else None
    parameters = {phase: count for phase, count in training.parameters.items() if count}
    return FreezeDiagram(rows[::-1], strip, _cut(plan), reason, parameters, training.thawed)


def _description(rows: list[BlockRow], documents: Documents) -> str:
    trained = [row.name for row in rows if row.trainable]
    return (
        f"{documents.job.model.backbone} from the input to the head: of {plural(len(rows), 'block')}, these trained: "
        + (", ".join(trained))
    )


def _cut(plan: Plan | None) -> str:
    if plan is None:
        return "Where the network was cut is not known: its plan is gone."
    if plan.cut is None:
        return "The network is not cut: nothing below the thawed layers was stored for fine-tuning."
    shape = " × ".join(map(str, plan.shape))
    size = math.prod(plan.shape) * storage_type(plan.dtype).itemsize / 1024
    return f"The network is cut behind {plan.cut}: {shape} {plan.dtype}, {size:,.1f} KiB of each example and view."
