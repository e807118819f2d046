"""The forecast as one JSON document, that of `thaw plan --json`; docs/plan.md says what each key means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from job.data.caution import Caution
from job.planning.calibration import Speeds
from job.planning.costs import MemoryNeed, Range
from job.planning.headers import Looks
from job.planning.scale import ModelledStage
from job.planning.timing import Stage


@dataclass(frozen=True)
class RunSection:
    id: str | None
    uri: str | None
    state: str
    """`new`, `begun`, `finished`, or `unknown` where the run can't be named yet."""


@dataclass(frozen=True)
class RejectedExample:
    key: str
    reason: str


@dataclass(frozen=True)
class RejectsSection:
    listing: dict[str, int]
    """Objects that the listing rejects, by reason."""
    decoding: dict[str, int]
    """Examples that are known not to decode, by reason."""
    sampled: int
    sample: dict[str, int]
    """Rejects of the sample, by reason."""
    examples: list[RejectedExample]
    expected: Range
    """The number of all examples that will not decode."""


@dataclass(frozen=True)
class NearCopy:
    held_out: str
    train: str
    distance: float


@dataclass(frozen=True)
class DuplicatesSection:
    held_out_compared: int
    train_compared: int
    held_out_with_a_near_copy: int | None
    of_another_label: int | None
    nearest: list[NearCopy]
    note: str


@dataclass(frozen=True)
class DataSection:
    source: str
    snapshot: str | None
    share: float
    """The share of the packed files' bytes that is read so far; 1 elsewhere."""
    examples: int
    counts: dict[str, dict[str, int]]
    """By split and class."""
    left_out: dict[str, int]
    rejects: RejectsSection
    pictures: Looks | None
    duplicates: DuplicatesSection


@dataclass(frozen=True)
class BlockSection:
    name: str
    layers: int
    parameters: int
    trainable: int


@dataclass(frozen=True)
class NetworkSection:
    backbone: str
    features: int
    parameters: int
    head_parameters: int
    blocks: list[BlockSection]
    thawed: list[str]
    cut: str | None
    shape: list[int]
    reason: str
    work: int
    work_below_cut: int


@dataclass(frozen=True)
class TensorSection:
    tap: str
    views: int
    dtype: str
    shape: list[int]
    bytes_per_example: int
    needed: int
    stored: int
    rejected: int
    missing: int
    bytes: int


@dataclass(frozen=True)
class CacheSection:
    tensors: list[TensorSection]
    examples_to_compute: int
    passes_to_compute: int
    bytes_to_write: int
    work: int


@dataclass(frozen=True)
class PhaseSection:
    name: str
    trainable: int | None
    epochs: Range
    assumes: str
    forward_per_epoch: float
    backward_per_epoch: float
    work: float


@dataclass(frozen=True)
class TimeSection:
    stages: list[Stage]
    total: Range | None
    calibration: Speeds | None
    last_run: str | None
    note: str


@dataclass(frozen=True)
class PriceSection:
    workers: int
    worker_hours: Range | None
    gpu_hours: Range | None
    worker_price: float | None
    price: Range | None


@dataclass(frozen=True)
class LimitSection:
    """One of the job's limits."""

    setting: str
    """`limits.hours`, `limits.cost` or `limits.deadline`."""
    limit: str
    """What the job file says, with its unit."""
    left: float
    """Seconds until it is reached by the job's workers, after what earlier attempts have taken."""
    fits: Literal["yes", "no", "perhaps", "unknown"]
    """Whether the run ends before: by all of the range of its time, none, or a part; or that is not known."""


@dataclass(frozen=True)
class MemorySection(MemoryNeed):
    total: int


@dataclass(frozen=True)
class ScaleSection:
    """What a model says of the run on so many workers with a GPU each, where that was asked for."""

    gpu: str
    workers: int
    stages: list[ModelledStage]
    seconds: float
    gpu_hours: float
    """While workers hold GPUs: in the stages whose `gpus` is true."""
    note: str


@dataclass(frozen=True)
class ForecastDocument:
    format: int
    job: str
    task: str
    run: RunSection
    data: DataSection
    network: NetworkSection
    cache: CacheSection
    phases: list[PhaseSection]
    time: TimeSection
    price: PriceSection
    limits: list[LimitSection]
    """The tightest first; empty where the job has none."""
    memory: MemorySection
    scale: ScaleSection | None
    warnings: list[Caution]
