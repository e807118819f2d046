"""`retrain_when` and `promote`: what follows when data has arrived. Neither changes what a run ends with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from job.config.base import Fraction, Section


class RetrainWhen(Section):
    """Where a model is current already, a run trains only if one of these holds; without this section, always."""

    new_examples: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = 0.05
    """New or changed examples since the current model's snapshot: a number, or a fraction of that snapshot."""
    new_class: bool = True
    """A class that the current model does not know."""
    shift: float | None = Field(None, ge=0.001, lt=1)
    """The significance level of a two-sample test, class by class, of the new examples' features against those of the
    training examples: they have shifted where its p-value is not above. It takes the features of the new examples,
    nothing else."""


class Promotion(Section):
    """When a finished run's model becomes the current one: better on the same test examples, beyond noise."""

    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy"
    confidence: float = Field(0.95, ge=0.5, lt=1)
    """The gain must be above `min_gain` in this fraction of the resamples of the paired bootstrap."""
    min_gain: float = Field(0.0, ge=-1, le=1)
    """A fraction of the metric. Below 0, a model that is a little worse is promoted as well."""
    max_class_drop: Fraction = 0.05
    """How much the recall of a class may fall; more than this, beyond noise, and the model is not promoted."""
    resamples: int = Field(2000, ge=100, le=100_000)
