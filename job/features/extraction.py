"""The values that pass between the steps of the extract stage: missing features, decoded examples, parts to store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from job.config import Job
from job.features.store import Featurizer
from job.model.resolved import ResolvedBase
from job.run.events import Emit
from job.storage import Store


@dataclass(frozen=True)
class Extraction:
    """The features that a run lacks."""

    job: Job
    run: str
    base: ResolvedBase
    featurizers: list[Featurizer]
    chunks: list[tuple[str, str]]
    """For each chunk of the run's work (see job.features.workload), its packed file ("" for single objects) and the
    version of that file."""
    store: Store
    """The store for features. It refuses writes once another process has taken over the run."""


@dataclass(frozen=True)
class Decoded:
    """The decoded examples of a chunk, and the reasons for those that could not be decoded."""

    inputs: np.ndarray
    """Inputs of the network, [k, …] in the job's form."""
    addresses: np.ndarray
    """Addresses of the decoded examples, ADDRESS [k]."""
    hashes: np.ndarray
    """Hashes of their keys, uint64 [k]."""
    needs: np.ndarray
    """Which of the features each example lacks, bool [k, features]."""
    rejects: list[tuple[bytes, str]]
    """Address and reason of each example that can't be decoded."""
    gone: dict[str, str]
    """The reason for each listed example that is no longer there, by key."""
    done: int
    """The number of all examples, with rejected and gone ones."""


@dataclass(frozen=True)
class NewPart:
    """A part to be stored: values of one featurizer for some examples, and rejects."""

    featurizer: Featurizer
    addresses: np.ndarray
    values: np.ndarray
    rejects: list[tuple[bytes, str]]


@dataclass(frozen=True)
class Extracted:
    """The report on examples whose features are computed. Once the stage has ended, they are in the store."""

    done: int
    gone: dict[str, str]


class Extractor(Protocol):
    """The part of an Executor that this stage needs: it computes features."""

    featurizers: int
    """The most networks that compute features side by side."""

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        """Computes and stores features, chunk by chunk. Raises Overflow and what reading the source raises."""
