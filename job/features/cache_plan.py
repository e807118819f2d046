"""Plans where a run cuts the network: the output at the cut is stored, everything above is computed in every epoch.

runs/<run>/plan.json   decided once, before the first feature is computed; a run that goes on keeps it
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from job.config import Job
from job.data.forms import form_of
from job.data.snapshot import Snapshot
from job.errors import JobError
from job.features.cache import NodeCache
from job.features.store import Featurizer, storage_type
from job.model.resolved import ResolvedBase
from job.run.fake_gpu import fake_meaning
from job.storage import Store
from job.storage.documents import read_document, write_document
from job.storage.run_keys import RunKeys
from job.wording import duration, size

if TYPE_CHECKING:
    import keras

    from job.model.cut import Cut

READ_BYTES_PER_SECOND = 1e9
"""The rate at which stored activations are read from a local disk, or from its pages in memory."""
LEAST_WORK = 0.01
"""The share of the network's work that must lie below a cut."""
SAMPLE = 8
"""Images that the frozen base is timed with."""


@dataclass(frozen=True)
class Plan:
    features: int
    """The length of the pooled features."""
    cut: str | None = None
    """The layer whose stored output fine-tuning starts from; None where it starts from the decoded inputs."""
    shape: tuple[int, ...] = ()
    """The shape of that output for one example."""
    dtype: str = "float32"
    """The type in which it is stored."""
    reason: str = ""
    """The reason for this plan in one line, for the user."""
    seconds_whole: float | None = None
    """Seconds that the planning machine takes for the frozen base and one example; None where it was not measured."""
    seconds_below: float | None = None
    """Seconds for the part below the cut."""


def choose_plan(job: Job, base: keras.Model, snapshot: Snapshot) -> Plan:
    """Weighs the cost of storing an output against the work that it saves. In `base`, the layers that fine-tuning
    trains are thawed. Raises JobError.
    """
    from job.model.cut import legal_cuts

    uncut = Plan(int(base.output_shape[-1]), seconds_whole=_seconds_per_example(base))
    fine_tune, train = job.phases.fine_tune, job.train
    if fine_tune is None:
        return replace(uncut, reason="the head alone is trained: pooled features are all that is stored")
    if train.cache == "off":
        return replace(uncut, reason="train.cache: off: fine-tuning computes the frozen layers in every epoch")
    if job.augment.active and train.views == 1:
        return replace(
            uncut,
            reason="augment draws anew in every epoch (train.views: 1), so fine-tuning computes the frozen layers in "
            "every epoch; train.views: 4 would store four views of each example instead",
        )
    legal = [cut for cut in legal_cuts(base) if cut.work_below > LEAST_WORK * (cut.work_below + cut.work_above)]
    legal = [cut for cut in legal if "float" in str(cut.tensor.dtype)]  # a text's ids would not survive float16
    if not legal:
        if train.cache == "on":
            raise JobError(
                "train.cache: on: below all that phases.fine_tune.unfreeze thaws there is no single tensor that holds "
                "any work: thaw fewer layers, or leave train.cache auto."
            )
        return replace(uncut, reason="no single tensor below what thaws holds any work: there is nothing to store")
    return _weighed(job, snapshot, legal, uncut=uncut)


def _weighed(job: Job, snapshot: Snapshot, legal: list[Cut], *, uncut: Plan) -> Plan:
    """The cheapest cut whose activations fit; the inputs where none does, or where reading would be no faster."""
    from job.model.cut import cheapest_cut

    train, fine_tune = job.train, job.phases.fine_tune
    assert fine_tune is not None
    in_train, stored = sum(snapshot.counts["train"].values()), _stored_examples(job, snapshot)
    limit = _room(job, uncut.features, stored)
    item = storage_type(train.cache_dtype).itemsize
    fitting = [cut for cut in legal if cut.values * item * stored <= limit]
    cut = cheapest_cut(fitting or legal, item)
    assert cut is not None
    each = cut.values * item
    assert uncut.seconds_whole is not None
    below = uncut.seconds_whole * cut.work_below / (cut.work_below + cut.work_above)
    computing, reading = in_train * below, in_train * each / READ_BYTES_PER_SECOND
    where = f"{cut.layer} ({size(each)} an example, {size(each * stored)} of {size(limit)})"
    shape, dtype = tuple(cut.tensor.shape[1:]), train.cache_dtype
    plan = replace(uncut, cut=cut.layer, shape=shape, dtype=dtype, seconds_below=below)
    gain = f"an epoch reads for {duration(reading)} instead of computing for {duration(computing)} on this machine"
    if train.cache == "on":
        more = "" if fitting else "; more than fits, so workers read it from the store again and again"
        return replace(plan, reason=f"train.cache: on: stored at {where}: {gain}{more}")
    if not fitting:
        reason = f"{where} is more than fits: fine-tuning computes the frozen layers in every epoch"
        return replace(uncut, reason=reason)
    if fine_tune.epochs * (computing - reading) <= each * stored / READ_BYTES_PER_SECOND:
        return replace(uncut, reason=f"computing is faster than reading {where}: {gain}")
    return replace(plan, reason=f"stored at {where}: {gain}")


def fits(job: Job, plan: Plan, snapshot: Snapshot) -> bool:
    """Whether the outputs that the plan stores at the cut fit on this node."""
    stored = _stored_examples(job, snapshot)
    size = math.prod(plan.shape) * storage_type(plan.dtype).itemsize if plan.cut else 0
    return job.train.cache == "on" or size * stored <= _room(job, plan.features, stored)


def _stored_examples(job: Job, snapshot: Snapshot) -> int:
    """The number of stored examples, counting every view."""
    return snapshot.examples + (job.train.views - 1) * sum(snapshot.counts["train"].values())


def _room(job: Job, features: int, stored: int) -> int:
    """Bytes of this node's disk for outputs at the cut, beside the pooled features."""
    return max(0, NodeCache(None, job.train.cache_limit, 1).limit - 4 * features * stored)


def featurizers(job: Job, base: ResolvedBase, plan: Plan) -> tuple[list[Featurizer], list[Featurizer]]:
    """The featurizers that the head phase reads, and those that fine-tuning reads, each by view."""
    form = form_of(job)
    network: dict[str, object] = {
        **form.meaning,
        "base": asdict(base),
        "preprocessing": job.model.preprocessing,
        "precision": job.train.precision,
        **fake_meaning(job),
    }
    if "://" not in job.model.backbone:
        network["backbone"] = job.model.backbone
    if job.model.end_at is not None:
        network["end_at"] = job.model.end_at
    views = range(job.train.views)
    changes = job.augment.model_dump(mode="json")

    def tapped(tap: str, dtype: str, shape: tuple[int, ...], *, view: int) -> Featurizer:
        return Featurizer(tap, view, dtype, shape, {**network, "augment": changes} if view else network)

    pooled = [tapped("pooled", "float32", (plan.features,), view=view) for view in views]
    if job.phases.fine_tune is None:
        return pooled, []
    if plan.cut is None:
        return pooled, [input_featurizer(job)]
    return pooled, [tapped(plan.cut, plan.dtype, plan.shape, view=view) for view in views]


def input_featurizer(job: Job) -> Featurizer:
    """The featurizer of the decoded inputs, which depend on no network."""
    form = form_of(job)
    return Featurizer(form.tap, 0, form.dtype, form.shape, form.meaning)


def read_plan(store: Store, run: str) -> Plan | None:
    return read_document(store, RunKeys(run).plan, Plan)


def write_plan(store: Store, run: str, plan: Plan) -> None:
    write_document(store, RunKeys(run).plan, plan)


def _seconds_per_example(base: keras.Model) -> float:
    """Seconds of the frozen base for one example on this machine, measured on noise."""
    import numpy as np

    inputs = (np.random.default_rng(0).random((SAMPLE, *base.input_shape[1:])) * 255).astype(base.input.dtype)
    base(inputs, training=False)  # the first call prepares each layer
    started = time.perf_counter()
    base(inputs, training=False)
    return (time.perf_counter() - started) / SAMPLE
