"""The words of a run: how often each occurs, and which have no pretrained vector.

runs/<run>/words.json   how many words occur, and how many of them have no vector, for the report
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.data.source import open_source
from job.data.sources.table import object_reader
from job.data.splits import SPLITS
from job.errors import DataError, ObjectMissing
from job.features.dataset import Examples
from job.features.store import Featurizer, StoredFeatures, read_stored
from job.libraries import import_tensorflow
from job.run.outcome import WordStatistics
from job.run.run import Run
from job.run.word_vectors import vectors_named
from job.storage import Store
from job.storage.documents import write_document
from job.text.vocabulary import kept_vectors, write_vocabulary

WORST = 10
"""The number of words without a vector that are named."""


@dataclass(frozen=True)
class Words:
    """The words of examples."""

    ids: np.ndarray
    """Ids of the words, int64 [w], ascending."""
    counts: np.ndarray
    """How often each word occurs, int64 [w]."""
    train: np.ndarray
    """How often each word occurs in the train split, int64 [w]."""
    example: np.ndarray
    """The row of an example with the word, int64 [w]."""


def count_words(store: Store, featurizer: Featurizer, stored: StoredFeatures, *, examples: Examples) -> Words:
    """Counts the words of these examples by their stored ids, part by part."""
    train = examples.splits == SPLITS.index("train")
    words = Words(*(np.empty(0, np.int64) for _ in range(4)))
    part, offset = stored.find(examples.addresses)
    for positions, values in read_stored(store, featurizer, stored.parts, part=part, offset=offset):
        rows = np.repeat(positions, values.shape[1])[values.ravel() > 0]
        ids, first, place, counts = np.unique(values[values > 0], True, True, True)
        in_train = np.bincount(place, train[rows], len(ids)).astype(np.int64)
        words = _merged(words, Words(ids, counts, in_train, rows[first]))
    return words


def _merged(first: Words, second: Words) -> Words:
    def joined(column: str) -> np.ndarray:
        return np.concatenate([getattr(first, column), getattr(second, column)])

    ids, at, place = np.unique(joined("ids"), True, True)
    counts, train = (np.bincount(place, joined(name), len(ids)).astype(np.int64) for name in ("counts", "train"))
    return Words(ids, counts, train, joined("example")[at])


def note_words(run: Run, words: Words, examples: Examples) -> WordStatistics:
    """Writes the run's vocabulary, and statistics of its words without a vector, which it returns. Raises
    DataError where all words are unknown.
    """
    job, store = run.job, run.store
    known = np.isin(words.ids, kept_vectors(store, run.base.weights_sha256)[1], assume_unique=True)
    if not known.any():
        raise DataError(
            f"model.weights: {vectors_named(job).uri} has a vector of none of the {len(words.ids)} words in "
            f"{job.data.source}: it is of another language, or of another kind."
        )
    write_vocabulary(store, run.id, words.ids[known], train=words.train[known])
    ids, counts = words.ids[~known], words.counts[~known]
    worst = np.lexsort((ids, -counts))[:WORST]
    names = _names(job, store, ids[worst], words=words, examples=examples)
    total, unknown = int(words.counts.sum()), int(counts.sum())
    statistics = WordStatistics(
        occurrences=total,
        distinct=len(known),
        unknown=unknown,
        unknown_distinct=len(ids),
        rate=unknown / total,
        worst=[(names[int(ids[at])], int(counts[at])) for at in worst if int(ids[at]) in names],
    )
    write_document(store, run.keys.words, statistics)
    return statistics


def _names(job: Job, store: Store, ids: np.ndarray, *, words: Words, examples: Examples) -> dict[int, str]:
    """The words of these ids, each read from an example that has it. A word whose example is gone is left out."""
    from job.data.text import ids_of_words, words_of

    import_tensorflow()
    read, plain = object_reader(job.data, open_source(job)), form_of(job).plain
    names: dict[int, str] = {}
    for row in np.unique(words.example[np.searchsorted(words.ids, ids)]).tolist():
        key, version = (examples.table[name][row].as_py() for name in ("key", "version"))
        with suppress(ObjectMissing):
            tokens = words_of(plain(read(key, version)), job.model.max_tokens)
            names |= dict(zip(ids_of_words(tokens).numpy().tolist(), map(bytes.decode, tokens.numpy()), strict=True))
    return names
