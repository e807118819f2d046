"""What in a job is likely to be a mistake: each caution names the setting, says why, and what to do."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from job.config import Job, Optimization
from job.data.caution import Caution, shown
from job.data.order import STREAMS
from job.data.snapshot import Snapshot
from job.data.sources.encoding import reads_utf8_as
from job.data.splits import SPLITS
from job.data.text import NOT_UTF8
from job.evaluation.duplicates import Duplicates
from job.executors.placement import is_here
from job.model.anatomy import Anatomy
from job.planning.costs import MemoryNeed, memory_here
from job.planning.headers import Headers, Looks, interval

if TYPE_CHECKING:
    from job.planning.document import Forecast

FEW = 10
"""Training examples of a class below which a head learns little of it."""
UNEVEN = 20
"""Times as many examples as the smallest class has that make a difference to a loss without weights."""
USUAL = {
    "head": {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-1},
    "fine_tune": {"adam": 1e-4, "adamw": 1e-4, "sgd": 1e-2},
}
"""Learning rates at which each optimizer usually works."""
FAR = 20
"""Times the usual rate, above or below it."""
SEEN = 0.01
"""The difference of two accuracies that a validation split should show."""
NARROW = 0.1
"""The part of what its type can hold below which a picture's values are likely to have another range."""
LIKELY = 0.9
"""The accuracy for which it is asked whether it does."""


def cautions(forecast: Forecast) -> list[Caution]:
    job, snapshot, headers = forecast.run.job, forecast.listed.snapshot, forecast.headers
    whole = forecast.listed.share == 1
    train = round(sum(snapshot.counts["train"].values()) / forecast.listed.share)
    rates = {name: getattr(job.phases, name) for name in USUAL}
    return [
        *snapshot.cautions,
        *(_examples(job, snapshot) if whole else ()),
        *_rejects(job, headers),
        *_encoding(job, headers),
        *_pictures(job, headers.looks),
        *(caution for name, settings in rates.items() if settings for caution in _rate(name, settings)),
        *_recipe(job, train),
        *_end(job, forecast.run.anatomy),
        *_depth(forecast.run.anatomy),
        *_room(job, forecast.memory, forecast.missing.to_write),
        *_copies(forecast.duplicates),
    ]


def _examples(job: Job, snapshot: Snapshot) -> Iterator[Caution]:
    train = snapshot.counts["train"]
    few = sorted((label for label in train if train[label] < FEW), key=lambda label: (train[label], label))
    if few:
        finding = f"{shown(few)}: fewer than {FEW} training examples ({train[few[0]]} of {few[0]!r})"
        yield Caution("data", f"{finding}: little can be learned of so few. Add examples, or leave the class out.")
    for split in SPLITS[1:]:
        without = [label for label in snapshot.classes if not snapshot.counts[split][label]]
        if without:
            finding = f"no example of {shown(without)} is on the {split} side: how well it is told won't be known"
            yield Caution("data.split", f"{finding}. Add examples, or raise data.split.{split}.")
    largest, smallest = max(train.values()), max(1, min(train.values()))
    if largest >= UNEVEN * smallest and job.train.class_weights is None:
        finding = f"the largest class has {largest / smallest:,.0f} times the training examples of the smallest"
        yield Caution("train.class_weights", f"{finding}, and all count the same: `auto` weighs each class evenly.")
    seen = sum(snapshot.counts["validation"].values())
    error = math.sqrt(LIKELY * (1 - LIKELY) / seen)
    if error > SEEN:
        finding = f"{seen} validation examples: an accuracy of {LIKELY:.0%} is known to ±{1.96 * error:.1%}"
        enough = math.ceil(LIKELY * (1 - LIKELY) / SEEN**2)
        yield Caution(
            "data.split.validation",
            f"{finding}, so that a difference of {SEEN:.0%} can't be seen. {enough} would show it: add examples, raise "
            "the split, or judge by larger differences.",
        )


def _rejects(job: Job, headers: Headers) -> Iterator[Caution]:
    low, _ = interval(headers.rejected, headers.sampled)
    allowed = job.data.max_rejects
    if headers.rejected and headers.rejected > allowed * headers.sampled:
        sure = "will end" if low > allowed else "may end"
        finding = f"{headers.rejected} of {headers.sampled} sampled examples are unusable, and {allowed:.1%} may be"
        yield Caution(
            "data.max_rejects",
            f"{finding}: the run {sure} with exit code 3 once they are decoded. Mend or remove them, or raise it.",
        )


def _encoding(job: Job, headers: Headers) -> Iterator[Caution]:
    """Cautions about the encoding of texts that are objects."""
    if job.task != "text" or job.data.label_table.text is not None:
        return
    refused = {why: count for why, count in headers.reasons.items() if why.startswith(NOT_UTF8)}
    if refused:
        finding = f"{sum(refused.values())} of {headers.sampled} sampled texts are not UTF-8, and will be rejected"
        likely = next(iter(refused)).removeprefix(NOT_UTF8)
        yield Caution("data.encoding", f"{finding}{likely}. Name what all of them are written in, or convert them.")
    encoding = job.data.encoding
    if encoding and (double := sum(reads_utf8_as(text, encoding) for text in headers.usable)):
        finding = f"{double} of {len(headers.usable)} sampled texts look like UTF-8 that is read as {encoding}"
        yield Caution(
            "data.encoding", f"{finding}: their letters become others. Convert them, or remove data.encoding."
        )


def _pictures(job: Job, looks: Looks) -> Iterator[Caution]:
    given = job.data.value_range
    among = f"of {looks.looked} sampled pictures"
    if looks.several:
        finding = f"{looks.several} {among} are animated, or have pages, and only the first is used"
        yield Caution("data", f"{finding}: where the others matter, make them pictures of their own.")
    if looks.values and given is None:
        lowest, highest, bits = looks.values
        if highest - lowest < NARROW * 2**bits:
            finding = f"{looks.deep} {among} have {bits} bits, and values of {lowest} to {highest} alone"
            lost = f"{(highest - lowest >> (bits - 8)) + 1} of 256 shades are left of them"
            value_range = f"[{0 if 2 * lowest < highest else lowest}, {2 ** highest.bit_length() - 1}]"
            yield Caution("data.value_range", f"{finding}: {lost}. Set data.value_range: {value_range}.")
    if given is not None and looks.looked and not looks.deep:
        finding = f"none {among} has more than 8 bits, and only such are scaled from it"
        yield Caution("data.value_range", f"{finding}. Leave it out.")


def _rate(name: str, settings: Optimization) -> Iterator[Caution]:
    rate, usual = settings.learning_rate, USUAL[name][settings.optimizer]
    where = f"phases.{name}.learning_rate"
    if rate == "auto":
        return
    if rate >= FAR * usual:
        risk = "the head is likely to diverge" if name == "head" else "good weights are likely to be destroyed"
        finding = f"{rate:g} is {rate / usual:,.0f} times what {settings.optimizer} usually takes here ({usual:g})"
        yield Caution(where, f"{finding}: {risk}. Lower it, or set it to auto.")
    elif rate <= usual / FAR:
        finding = f"{rate:g} is a {usual / rate:,.0f}th of what {settings.optimizer} usually takes here ({usual:g})"
        yield Caution(where, f"{finding}: {settings.epochs} epochs may change little. Raise it, or set it to auto.")


def _recipe(job: Job, train: int) -> Iterator[Caution]:
    """`train` is how many examples the split has."""
    head, fine_tune = job.phases.head, job.phases.fine_tune
    if fine_tune and head.epochs <= head.patience and not fine_tune.allow_unconverged_head:
        yield Caution(
            "phases.head.epochs",
            f"{head.epochs} epochs can't reach a patience of {head.patience}: the head will count as not converged, "
            "and the run end with exit code 5. Raise the epochs, or lower the patience.",
        )
    if job.model.weights_source == "none":
        yield Caution(
            "model.weights",
            "none: the frozen layers are random, and there is nothing to transfer. Name pretrained weights.",
        )
    if job.train.batch_size > train:
        yield Caution(
            "train.batch_size", f"{job.train.batch_size} is more than the {train} training examples: one step an epoch."
        )
    most = min(job.train.batch_size, STREAMS)
    if job.scaling.max_workers > most:
        idle = job.scaling.max_workers - most
        yield Caution(
            "scaling.workers",
            f"{idle} of {job.scaling.max_workers} workers would be idle: a batch of {job.train.batch_size} is dealt to "
            f"{most} at most. Ask for {most}.",
        )


def _end(job: Job, anatomy: Anatomy) -> Iterator[Caution]:
    """Unless the job says itself where the base ends."""
    if anatomy.classifier and job.model.end_at is None:
        yield Caution("model.end_at", anatomy.classifier.advice(job.model.backbone))


def _depth(anatomy: Anatomy) -> Iterator[Caution]:
    """By blocks and by work: the top layers of most networks have most of the parameters."""
    weighty = sum(block.parameters > 0 for block in anatomy.blocks)
    thawed = sum(block.trainable > 0 for block in anatomy.blocks)
    if anatomy.trainable and weighty > 1 and thawed > weighty / 2:
        yield Caution(
            "phases.fine_tune.unfreeze",
            f"{thawed} of the network's {weighty} blocks are thawed, more than half: low layers gain little, small "
            "data is learned by heart, and what lies below can't be stored. Thaw fewer (`thaw sweep` shows what pays).",
        )


def _room(job: Job, memory: MemoryNeed, to_write: int) -> Iterator[Caution]:
    """Only where the run would be on this machine; `to_write` are bytes of features."""
    if job.scaling.executor != "local" and not is_here():
        return
    workers, here = job.scaling.max_workers, memory_here()
    if workers * memory.held > here and not job.scaling.gpu:
        each, room = f"{memory.held / 2**30:.1f} GiB", f"more than the {here / 2**30:.1f} GiB of this machine"
        if workers > 1:
            finding = f"{workers} workers of {each} each are {room}. Take fewer workers, a smaller train.batch_size"
            yield Caution("scaling.workers", f"{finding}, or thaw less.")
        else:
            finding = f"The run needs {each}, {room}. Take a smaller train.batch_size, or thaw less."
            yield Caution("train.batch_size", finding)
    if not job.store.startswith("file://"):
        return
    folder = Path(job.store.removeprefix("file://"))
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free
    if to_write > free:
        yield Caution(
            "store",
            f"{to_write / 2**30:.1f} GiB of features are to be written, and {free / 2**30:.1f} GiB are free there. "
            "Make room, lower train.views, or set train.cache: off.",
        )


def _copies(duplicates: Duplicates) -> Iterator[Caution]:
    if duplicates.pairs:
        labels = f", {duplicates.other_label} of them with another label" if duplicates.other_label else ""
        yield Caution(
            "data",
            f"{duplicates.pairs} of {duplicates.compared[0]} held-out examples are nearly the same as a training "
            f"example{labels}: metrics will be too good. Remove the copies, or give what belongs together one group "
            "(data.table.group, data.packed.group).",
        )
