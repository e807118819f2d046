"""The verdict: one sentence about a run."""

from __future__ import annotations

from job.evaluation.intervals import Interval
from job.evaluation.run_documents import Documents
from job.wording import between, percent, plural, points, shortened


def verdict(documents: Documents, accuracy: Interval, gained: Interval | None) -> str:
    """A sentence about the run. `accuracy` is that of the kept model, `gained` the gain of fine-tuning over the
    head.
    """
    examples = len(documents.predictions.labels)
    tuned = documents.kept == "fine_tune"
    text = f"The {'fine-tuned' if tuned else 'head-only'} model is right on {percent(accuracy.value)} of "
    text += f"{plural(examples, 'test example')} (95 % interval: {between('accuracy', accuracy)})"
    common, share = majority(documents)
    if accuracy.low <= share:
        text += f", which is not clearly more than the {percent(share)} of always answering “{shortened(common, 40)}”"
    elif gained is not None and tuned:
        text += f", {_gained(gained)}"
    elif gained is not None:
        text += ", and is the one that was kept, since fine-tuning did not help on the validation split"
    return f"{text}; {in_use(documents)}."


def majority(documents: Documents) -> tuple[str, float]:
    """The most frequent class of the train split, and its share of the test split."""
    counts = documents.snapshot.counts["train"]
    common = max(documents.snapshot.classes, key=lambda label: counts.get(label, 0))
    return common, float((documents.predictions.labels == documents.snapshot.classes.index(common)).mean())


def in_use(documents: Documents) -> str:
    if documents.promotion is None:
        return "no rule put it into use (promote: null)" if documents.job.promote is None else "it is not judged yet"
    return "it was put into use" if documents.promotion.promoted else "it was not put into use"


def _gained(gain: Interval) -> str:
    size = f"{abs(100 * gain.value):.1f} points {'more' if gain.value >= 0 else 'less'} than the head alone"
    if gain.low > 0 or gain.high < 0:
        return f"{size}, beyond noise ({points(gain.low)} to {points(gain.high)})"
    return f"{size}, which may be noise ({points(gain.low)} to {points(gain.high)})"
