"""What a run leaves in its store for people and for the stages after: training.json, result.json, promotion.json,
decision.json, and what `thaw run --json` prints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from job.storage.documents import OMITTED, plain


@dataclass(frozen=True)
class EpochRecord:
    """An epoch; as epoch 0, the model that a phase begins with, which has the figures of the validation split alone."""

    epoch: int
    validation_loss: float
    validation_accuracy: float
    loss: float | None = field(default=None, metadata=OMITTED)
    learning_rate: float | None = field(default=None, metadata=OMITTED)
    seconds: float | None = field(default=None, metadata=OMITTED)
    examples: int | None = field(default=None, metadata=OMITTED)
    digest: str | None = field(default=None, metadata=OMITTED)
    """It proves that each example was seen once."""
    blocks: int | None = field(default=None, metadata=OMITTED)
    """With `unfreeze: auto`, the number of thawed blocks."""
    input_wait: float | None = field(default=None, metadata=OMITTED)
    """Seconds in which the steps of the first worker waited for batches, without those before a resumption. Not known
    where ops are deterministic."""
    all_reduce_wait: float | None = field(default=None, metadata=OMITTED)
    """The same, for the sum over the workers."""


@dataclass(frozen=True)
class BlockVerdict:
    """What `unfreeze: auto` decided about a block."""

    before: float
    """The validation loss without it."""
    after: float
    share: float
    """The share of the resamples in which the loss is lower."""
    blocks: int
    """The number of blocks that are thawed with it."""
    block: str
    pays: bool


@dataclass(frozen=True)
class RangeTest:
    """How the learning rate of a phase was found."""

    learning_rate: float
    rates: list[float]
    losses: list[float | None]
    """Relative to those at rate 0; None where a loss was no finite number."""


@dataclass(frozen=True)
class DescribedBlock:
    """A block of the network, or its head."""

    block: str
    layers: int
    parameters: int
    trainable: int
    """Parameters that trained."""
    cut: bool
    """Whether it holds the cut."""


@dataclass(frozen=True)
class Training:
    kept: str
    """The exported model: `head` or `fine_tune`."""
    converged: bool
    """Whether the head has converged."""
    history: dict[str, list[EpochRecord]]
    """By phase."""
    thawed: list[BlockVerdict] = field(default_factory=list)
    range_tests: dict[str, RangeTest] = field(default_factory=dict)
    """By phase."""
    blocks: list[DescribedBlock] = field(default_factory=list)
    """From the bottom to the top."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Trained parameters, by phase."""

    def trained_epochs(self, phase: str) -> list[EpochRecord]:
        """The epochs of a phase that made steps."""
        return [record for record in self.history.get(phase, []) if record.loss is not None]


@dataclass(frozen=True)
class Metrics:
    """The metrics of a model on the test split."""

    examples: int
    accuracy: float
    balanced_accuracy: float
    """The mean recall of the classes that occur."""
    roc_auc: float | None
    """The area under the ROC curve of class 1 for two classes, else the mean over classes, each against the rest; None
    where a class has no example, or all."""
    loss: float
    confusion: list[list[int]]
    """True classes in rows, answers in columns."""


@dataclass(frozen=True)
class WordStatistics:
    """words.json: the words of the texts, and those without a pretrained vector, which are `unknown`."""

    occurrences: int
    distinct: int
    unknown: int
    unknown_distinct: int
    rate: float
    """The share of the occurrences that are unknown."""
    worst: list[tuple[str, int]]
    """The unknown words that occur most often, and how often."""


@dataclass(frozen=True)
class RunResult:
    """result.json: what training came to. Its existence means that the run is finished."""

    run: str
    """The URI of the run where it was made."""
    snapshot: str
    state: str
    """`finished`; `head` where the run stopped there, or `not worth it`, of which nothing is stored."""
    metrics: dict[str, Metrics | None]
    """By model, `head` and `fine_tune`; None where it was not trained."""
    classes: list[str]
    model: str | None
    """The URI of the exported model; None where there is none."""
    task: str | None = field(default=None, metadata=OMITTED)
    """`text`; None for images."""
    words: WordStatistics | None = field(default=None, metadata=OMITTED)
    kept: str | None = field(default=None, metadata=OMITTED)
    """The exported model: `head` or `fine_tune`."""
    thawed: list[BlockVerdict] | None = field(default=None, metadata=OMITTED)
    """What `unfreeze: auto` decided."""
    fake_gpu: bool | None = field(default=None, metadata=OMITTED)
    """Whether its GPUs were fake, so that the model is worth nothing."""

    def model_of(self, run: str) -> str:
        """The URI of the exported model of the run at the URI `run`, to which the whole run may have been copied."""
        assert self.model is not None, "only runs with a model are asked for it"
        return run + self.model.removeprefix(self.run)

    @property
    def tested(self) -> dict[str, Metrics]:
        """The metrics of the models that were trained."""
        return {name: metrics for name, metrics in self.metrics.items() if metrics}


@dataclass(frozen=True)
class PromotionDecision:
    """promotion.json: whether the run's model was put into use, and why."""

    promoted: bool
    reason: str
    run: str
    against: str | None
    """The run whose model was in use; None where there was none."""
    at: str | None = field(default=None, metadata=OMITTED)
    """When it was decided (ISO 8601, UTC)."""
    rules: dict[str, Any] | None = field(default=None, metadata=OMITTED)
    """`promote` of the job file."""
    examples: int | None = field(default=None, metadata=OMITTED)
    """The test examples on which both models were compared; None where they were not, as all that follows."""
    candidate: float | None = field(default=None, metadata=OMITTED)
    """The metric of the run's own model."""
    current: float | None = field(default=None, metadata=OMITTED)
    """The metric of the model in use."""
    least_gain: float | None = field(default=None, metadata=OMITTED)
    """The lower end of the gain's confidence interval."""
    classes: list[dict[str, str | int | float | None]] | None = field(default=None, metadata=OMITTED)
    """For each class {class, examples, recall_drop}: how far its recall falls from the model in use to the run's own;
    None where no example says it."""


@dataclass(frozen=True)
class Decision:
    """decision.json: whether a run is worth its price where a model is in use (`retrain_when`)."""

    train: bool | None
    """Whether to train; None where that depends on the features of the new examples."""
    reason: str
    """The reason in one line."""
    new_examples: int = 0
    """Examples that are new, changed or relabelled since the current model's snapshot; all where there is no model."""
    new_classes: tuple[str, ...] = ()
    p_value: float | None = None
    """The p-value of the test whether their features are distributed as those of the current model's training
    examples."""
    current: str | None = None
    """The run whose model was in use."""


@dataclass(frozen=True)
class RunOutcome:
    """What `thaw run` ends with: the result of the run, and what followed it."""

    result: RunResult
    promotion: PromotionDecision | None = None
    """None where nothing was to be decided (promote: null), or there is no model."""
    report: str | None = None
    """The URI of the page; None where it could not be made."""
    decision: Decision | None = None
    """Why nothing was trained; None where the run was trained."""
    formats: dict[str, str | None] | None = None
    """The URI of each further format by its name, None where it failed; None where the job asks for no format."""
    mlflow: str | None = None
    """Where MLflow shows the run; empty where MLflow has failed, None where the job does not ask for it."""

    def as_json(self) -> dict[str, Any]:
        document = {**plain(self.result), "promotion": plain(self.promotion)}
        if self.result.model is not None:
            document["report"] = self.report
        if self.decision is not None:
            document["decision"] = asdict(self.decision)
        if self.formats is not None:
            document["formats"] = self.formats
        if self.mlflow is not None:
            document["mlflow"] = self.mlflow or None
        return document
