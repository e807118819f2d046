"""`scaling`, `limits`, `checkpoint` and `recovery`: what a run takes, and what it survives; nothing of its result."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, field_validator, model_validator

from job.config.base import Section

MAX_WORKERS = 4096


class WorkerRange(Section):
    """Training goes on with as many workers as the cluster has room for."""

    min: int = Field(ge=1, le=MAX_WORKERS)
    max: int = Field(ge=1, le=MAX_WORKERS)

    @model_validator(mode="after")
    def _ascends(self) -> WorkerRange:
        if self.min > self.max:
            raise ValueError(f"min must not be above max, got {self.min} and {self.max}")
        return self


class Scaling(Section):
    executor: Literal["auto", "local", "ray"] = "auto"
    """`local`: everything in the process of `thaw run`. `ray`: on Ray. `auto`: local where one worker is enough."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_WORKERS)] | WorkerRange = "auto"
    """How many workers train: a number, or {min: 1, max: 8}. `auto`: one here; on Ray one per GPU, or per node."""
    gpu: bool = False
    """Gives each worker one GPU."""
    head_on: Literal["cpu", "gpu"] = "cpu"
    """Where Ray trains the head with `gpu: true`: on as many workers without GPUs, which are not held meanwhile, or on
    those that fine-tune. Embedded in one process, all of a run has its GPU."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPU cores of each worker; by default an equal share on one machine, and 1 on a cluster."""
    worker_price: float | None = Field(None, ge=0)
    """What an hour of one worker costs, in any currency: for what is told about costs."""

    @field_validator("workers", mode="before")
    @classmethod
    def _number_or_range(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return WorkerRange.model_validate(value)
        if value == "auto" or isinstance(value, WorkerRange) or (type(value) is int and 1 <= value <= MAX_WORKERS):
            return value
        raise ValueError(f"auto, a number from 1 to {MAX_WORKERS}, or {{min: 1, max: 8}} is needed")

    @model_validator(mode="after")
    def _local_is_one(self) -> Scaling:
        if self.executor == "local" and self.workers != "auto" and self.max_workers > 1:
            raise ValueError(
                f"executor: local is a single worker, and workers asks for {self.max_workers}: "
                "remove one of the two, or write executor: ray"
            )
        return self

    @property
    def min_workers(self) -> int:
        return self._range[0]

    @property
    def max_workers(self) -> int:
        return self._range[1]

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change while they train."""
        return self.min_workers != self.max_workers

    @property
    def _range(self) -> tuple[int, int]:
        """The least and the most workers. Valid only after job.executors.placed has resolved `auto`."""
        assert self.workers != "auto", "scaling.workers: auto was not resolved"
        if isinstance(self.workers, WorkerRange):
            return self.workers.min, self.workers.max
        return self.workers, self.workers


class Limits(Section):
    """What a run may take: all of its attempts together, without the time between them. It ends, with a checkpoint,
    before it takes more, and begins nothing that it can't finish."""

    hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Hours in which somebody works on it."""
    cost: float | None = Field(None, gt=0, allow_inf_nan=False)
    """In the currency of `scaling.worker_price`: its workers, from the first to the last second."""
    deadline: AwareDatetime | None = None
    """When it ends at the latest, such as 2026-12-01T06:00Z."""

    @property
    def any(self) -> bool:
        return any(limit is not None for limit in (self.hours, self.cost, self.deadline))


class CheckpointPolicy(Section):
    """When a checkpoint is written, besides the end of each phase. Given both, whichever comes first."""

    every_steps: int | None = Field(None, gt=0)
    """After this many steps; `null`: not by steps."""
    every_minutes: float | None = Field(1.0, gt=0, allow_inf_nan=False)
    """After this many minutes; `null`: not by time."""
    keep: int = Field(2, ge=1, le=100)
    """How many of the latest complete checkpoints are kept."""


class Recovery(Section):
    """What does not end an attempt at a run: training goes on from the latest checkpoint."""

    max_failures: int = Field(10, ge=0)
    """Lost workers and errors of workers that one attempt survives, each time going on from the latest checkpoint;
    preemptions of nodes are counted apart. A process of the extract stage is replaced as often."""
    max_preemption_failures: int | None = Field(None, ge=0)
    """Preemptions of nodes that one attempt survives; `null` is no limit."""
    stall_timeout: float = Field(600, gt=0, allow_inf_nan=False)
    """Seconds. If no step is made for so long, stacks are written to the run's folder and training starts again from
    the latest checkpoint."""
