"""`phases`, `augment` and `train`: how the model is trained."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, field_validator, model_validator

from job.config.base import Bytes, Fraction, Section

MAX_VIEWS = 32


class UnfreezeBlocks(Section):
    blocks: int = Field(gt=0)
    """Thaw this many blocks, counted from the top."""


class UnfreezeFrom(Section):
    from_: str = Field(alias="from")
    """Thaw this layer and every layer above it."""


class UnfreezeMatch(Section):
    match: list[str] = Field(min_length=1)
    """Thaw the layers whose names match one of these shell patterns."""


class BlockByBlock(Section):
    """How `unfreeze: auto` decides."""

    max_blocks: int = Field(4, gt=0)
    """The most blocks that are thawed, counted from the top. What is stored is cut below them."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """A block stays thawed where the validation loss falls in at least this share of the resamples."""
    rate_decay: float = Field(0.5, gt=0, le=1)
    """The learning rate of each block, as a fraction of that of the block above it."""


class UnfreezeAuto(Section):
    auto: BlockByBlock = BlockByBlock()
    """Thaw one block after another, from the top, as long as the validation loss falls beyond noise."""


class UnfreezeWords(Section):
    words: int = Field(gt=0)
    """Thaw the vectors of this many words (`glove`): those that are most frequent in the train split."""


Unfreeze = Union[UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch, UnfreezeAuto, UnfreezeWords]


RULES: dict[str, type[Section]] = {
    "blocks": UnfreezeBlocks, "from": UnfreezeFrom, "match": UnfreezeMatch, "words": UnfreezeWords,
    "auto": UnfreezeAuto,
}  # fmt: skip


def _rate(value: Any) -> Any:
    """The rate as a number, since YAML reads 1e-3 as text. Raises ValueError."""
    try:
        rate = value if value == "auto" else float(value)
    except (TypeError, ValueError):
        rate = 0.0
    if rate != "auto" and not 0 < rate < math.inf:
        raise ValueError("a number above 0 is needed, or auto")
    return rate


Rate = Annotated[float | Literal["auto"], BeforeValidator(_rate)]


class Optimization(Section):
    """What both phases have in common."""

    epochs: int = Field(gt=0)
    learning_rate: Rate
    """`auto`: a tenth of the rate at which the loss was lowest in a range test of a few steps before the first."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has momentum 0.9."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    """Over the phase's epochs: `cosine` falls to 0, `one_cycle` rises for 0.3 of them and then falls."""
    warmup_epochs: float = Field(0.0, ge=0)
    """The learning rate first rises in a straight line, for so many epochs."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of `adamw`; biases, and the scales and offsets of normalization, are spared."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """The share of each label that is spread evenly over all classes, in training only."""
    mixup: float = Field(0.0, ge=0)
    """Mixes the features of each training example, and its label, with those of another one, by a share that is drawn
    from Beta(mixup, mixup): 0.1 to 0.4 mix little. 0 mixes nothing."""
    patience: int | None = Field(None, gt=0)
    """Stop after this many epochs without a better validation loss."""

    @model_validator(mode="after")
    def _settings_fit(self) -> Optimization:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight_decay needs `optimizer: adamw`")
        if self.warmup_epochs and self.schedule == "one_cycle":
            raise ValueError("`schedule: one_cycle` has a rise of its own: leave out warmup_epochs")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be less than epochs ({self.epochs})")
        return self


class HeadPhase(Optimization):
    epochs: int = Field(50, gt=0)
    learning_rate: Rate = 1e-3
    patience: int = Field(5, gt=0)
    warm_start: bool = False
    """Start from the head of the current model, where there is one of the same shape on the same base: classes that
    both have keep their weights, others start afresh."""


class FineTunePhase(Optimization):
    unfreeze: Unfreeze = UnfreezeBlocks(blocks=2)
    epochs: int = Field(10, gt=0)
    learning_rate: Rate = 1e-4
    warm_epochs: int | None = Field(None, gt=0)
    """Start from the fine-tuned layers of the current model, where the same ones are thawed on the same base, and make
    so many epochs instead of `epochs`. Needs `phases.head.warm_start`."""
    allow_unconverged_head: bool = False
    """Fine-tune even if the head phase ran out of epochs before its patience was reached."""

    @model_validator(mode="after")
    def _auto_begins_afresh(self) -> FineTunePhase:
        if self.warm_epochs and isinstance(self.unfreeze, UnfreezeAuto):
            raise ValueError("warm_epochs goes on with blocks that `unfreeze: auto` chooses: leave out one")
        return self

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _one_rule(cls, value: Any) -> Any:
        if value == "auto":
            return UnfreezeAuto(auto=BlockByBlock())  # set, so that it is written down too
        if isinstance(value, dict):
            if len(value) != 1 or next(iter(value)) not in RULES:
                got = ", ".join(map(str, value)) or "nothing"
                raise ValueError(f"exactly one of {', '.join(f'`{name}`' for name in RULES)} is needed, got {got}")
            ((name, rule),) = value.items()
            if name == "match" and isinstance(rule, str):
                rule = [rule]
            return RULES[name].model_validate({name: rule})
        return value


class Phases(Section):
    head: HeadPhase = HeadPhase()
    fine_tune: FineTunePhase | None = FineTunePhase()
    """`null` ends the run with the head."""

    @model_validator(mode="after")
    def _warm_together(self) -> Phases:
        if self.fine_tune and self.fine_tune.warm_epochs and not self.head.warm_start:
            raise ValueError("fine_tune.warm_epochs needs `head: {warm_start: true}`: both start from the same model")
        return self


class Augment(Section):
    """Changes of training images; a pure function of example and view or epoch."""

    flip_horizontal: bool = False
    """Left-right, for half of the images."""
    flip_vertical: bool = False
    """Upside-down, for half of the images."""
    quarter_turns: bool = False
    """By 0, 90, 180 or 270 degrees: exact, where no direction is the upper one."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Degrees: turns about the centre by an angle uniform in ±`rotate`; what was outside mirrors the inside."""
    shift: float = Field(0.0, ge=0, lt=1)
    """A fraction of the side: moves along each side by an own distance, uniform in ±`shift`."""
    scale: float = Field(0.0, ge=0, lt=1)
    """A fraction: zooms about the centre by a factor uniform in 1±`scale` (above 1 enlarges)."""
    brightness: Fraction = 0.0
    """A fraction of the full range: adds a value uniform in ±`brightness` to every pixel."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """A fraction: stretches values about the image's own mean by a factor uniform in 1±`contrast`."""

    @property
    def active(self) -> bool:
        """Whether anything is switched on."""
        return any(value for _, value in self)


class Train(Section):
    batch_size: int = Field(64, gt=0)
    """The global batch size: examples per step over all workers."""
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    class_weights: Literal["auto"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """`auto` weighs each class by the inverse of its frequency; or a weight for each class name."""
    views: int = Field(1, ge=1, le=MAX_VIEWS)
    """Deterministic augmentations of each training example that are used: epoch e sees view e mod `views`, and view 0
    is the plain image. With 1, `augment` draws anew in every epoch, which can't be cached."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Whether fine-tuning reads the stored activation where the network is cut, or computes it from the image in every
    epoch. `auto` weighs bytes against work; `on` insists."""
    cache_limit: Bytes | None = None
    """Disk of each node that features may take, in bytes or as in `50 GiB`; by default half of what is free."""
    cache_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """How activations are stored. `float16` becomes `bfloat16` where a value is too large for it."""
    deterministic: bool | Literal["auto"] = "auto"
    """Bit-exact repeats; `auto` is on for CPUs and off for GPUs."""
    jit_compile: bool | Literal["auto"] = "auto"
    """XLA; `auto` is off on CPUs, and on GPUs off for networks with depthwise convolutions."""

    @field_validator("cache", mode="before")
    @classmethod
    def _words_of_yaml(cls, value: Any) -> Any:
        """YAML reads `on` and `off` as booleans."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value
