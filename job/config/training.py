"""`phases`, `augment` and `train`: how the model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Field, field_validator, model_validator

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


class UnfreezeWords(Section):
    words: int = Field(gt=0)
    """Thaw the vectors of this many words (`glove`): those that are most frequent in the train split."""


Unfreeze = Union[UnfreezeBlocks, UnfreezeFrom, UnfreezeMatch, UnfreezeWords]


class Optimization(Section):
    """What both phases have in common."""

    epochs: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has momentum 0.9."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` falls to 0 over the phase's epochs."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of `adamw`; biases are spared."""
    patience: int | None = Field(None, gt=0)
    """Stop after this many epochs without a better validation loss."""

    @model_validator(mode="after")
    def _decay_needs_adamw(self) -> Optimization:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight_decay needs `optimizer: adamw`")
        return self


class HeadPhase(Optimization):
    epochs: int = Field(50, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    patience: int = Field(5, gt=0)
    warm_start: bool = False
    """Start from the head of the current model, where there is one of the same shape on the same base: classes that
    both have keep their weights, others start afresh."""


class FineTunePhase(Optimization):
    unfreeze: Unfreeze = UnfreezeBlocks(blocks=2)
    epochs: int = Field(10, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    warm_epochs: int | None = Field(None, gt=0)
    """Start from the fine-tuned layers of the current model, where the same ones are thawed on the same base, and make
    so many epochs instead of `epochs`. Needs `phases.head.warm_start`."""
    allow_unconverged_head: bool = False
    """Fine-tune even if the head phase ran out of epochs before its patience was reached."""

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _one_rule(cls, value: Any) -> Any:
        if isinstance(value, dict):
            rules: dict[str, type[Section]] = {
                "blocks": UnfreezeBlocks,
                "from": UnfreezeFrom,
                "match": UnfreezeMatch,
                "words": UnfreezeWords,
            }
            if len(value) != 1 or next(iter(value)) not in rules:
                got = ", ".join(map(str, value)) or "nothing"
                raise ValueError(f"exactly one of {', '.join(f'`{name}`' for name in rules)} is needed, got {got}")
            rule = rules[next(iter(value))]
            if isinstance(value.get("match"), str):
                value = {"match": [value["match"]]}
            return rule.model_validate(value)
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
