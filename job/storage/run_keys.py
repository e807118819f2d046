"""The keys of a run's objects in a store, all of them below `runs/<run>/`."""

from __future__ import annotations

from dataclasses import dataclass

from job.storage import Store

RUNS = "runs/"


def run_uri(store: Store, run: str) -> str:
    """The URI of a run, by which people and other programs name it."""
    return f"{store.uri}{RunKeys(run).folder}"


def run_id_of(uri: str) -> str:
    """The id of the run with this URI."""
    return uri.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class RunKeys:
    """The keys of a run's objects, by the run's id."""

    run: str

    @property
    def folder(self) -> str:
        return f"{RUNS}{self.run}/"

    def named(self, document: str) -> str:
        """The key of the JSON document of this name."""
        return f"{self.folder}{document}.json"

    @property
    def job(self) -> str:
        """The job file, with all defaults filled in."""
        return self.named("job")

    @property
    def state(self) -> str:
        """The holder of the run, and its valid checkpoints."""
        return self.named("state")

    @property
    def decision(self) -> str:
        """The decision whether to train, and the reason."""
        return self.named("decision")

    @property
    def plan(self) -> str:
        """The cut of the network, and the features to store."""
        return self.named("plan")

    @property
    def network(self) -> str:
        """The numbers of the network that decide the cost of the run."""
        return self.named("network")

    @property
    def warm_start(self) -> str:
        return self.named("warm_start")

    @property
    def work(self) -> str:
        """The examples whose features are missing; deleted once they are there."""
        return f"{self.folder}work.parquet"

    @property
    def rejects(self) -> str:
        """A JSON document a line: the examples that could not be decoded."""
        return f"{self.folder}rejects.jsonl"

    @property
    def words(self) -> str:
        """The number of words in the texts, and of known ones among them."""
        return self.named("words")

    @property
    def vocabulary(self) -> str:
        return f"{self.folder}vocabulary.safetensors"

    @property
    def dataset(self) -> str:
        """The table of the data set, written once all features are there."""
        return f"{self.folder}dataset.parquet"

    def checkpoint(self, name: str = "") -> str:
        return f"{self.folder}checkpoints/{name}"

    def stacks(self, name: str) -> str:
        """The stacks of a stalled worker's threads."""
        return f"{self.folder}stacks/{name}.txt"

    @property
    def batch(self) -> str:
        """The keys of the batch whose loss was not finite."""
        return f"{self.folder}batch.txt"

    def weights(self, name: str) -> str:
        """The trained weights: `head` or `fine_tuned`."""
        return f"{self.folder}{name}.safetensors"

    @property
    def predictions(self) -> str:
        """The logits of the examples."""
        return f"{self.folder}predictions.parquet"

    @property
    def training(self) -> str:
        """The results of training: history, convergence, the kept model."""
        return self.named("training")

    @property
    def progress(self) -> str:
        """The progress of the run, while it goes on."""
        return self.named("standing")

    @property
    def timings(self) -> str:
        return self.named("timings")

    @property
    def tensorboard(self) -> str:
        """The folder of TensorBoard's event files."""
        return f"{self.folder}tensorboard/"

    @property
    def models(self) -> str:
        """The folder of the exported models, one folder for each attempt."""
        return f"{self.folder}model/"

    def model(self, attempt: int) -> str:
        return f"{self.models}{attempt}/"

    @property
    def result(self) -> str:
        """The result, written last: its existence means that the run is finished."""
        return self.named("result")

    @property
    def promotion(self) -> str:
        return self.named("promotion")

    @property
    def record(self) -> str:
        return self.named("record")

    @property
    def mlflow(self) -> str:
        return self.named("mlflow")

    @property
    def page(self) -> str:
        return f"{self.folder}report/index.html"

    @property
    def card(self) -> str:
        return f"{self.folder}report/card.md"

    @property
    def range_tests(self) -> str:
        return f"{self.folder}report/range_tests.svg"
