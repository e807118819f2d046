"""What the extract stage hands from one step to the next: what is missing, what was decoded, what is to be stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from job.config import Job
from job.features.store import Featurizer, write_part
from job.model.resolved import ResolvedBase
from job.run.events import Emit
from job.storage import Store


@dataclass(frozen=True)
class Extraction:
    """The features that a run lacks."""

    job: Job
    run: str
    base: ResolvedBase
    wanted: list[Featurizer]
    chunks: list[tuple[str, str]]
    """For each chunk of the run's work (see job.features.workload): its packed file ("" for single objects), and the
    version of that."""
    store: Store
    """Where features are written; it refuses once the run has gone to someone else."""


@dataclass(frozen=True)
class Decoded:
    """Some examples of a chunk as the network takes them, and why the others are not among them."""

    inputs: np.ndarray
    """[k, …] in the job's form."""
    addresses: np.ndarray
    """ADDRESS [k]"""
    hashes: np.ndarray
    """uint64 [k]"""
    needs: np.ndarray
    """Which of the features wanted each lacks, bool [k, features]."""
    rejects: list[tuple[bytes, str]]
    """Address and reason of those that can't be decoded."""
    gone: dict[str, str]
    """Why those are not there that were listed, by key."""
    done: int
    """All of them together."""


@dataclass(frozen=True)
class NewPart:
    """What is to be stored of some examples, by one featurizer."""

    featurizer: Featurizer
    addresses: np.ndarray
    values: np.ndarray
    rejects: list[tuple[bytes, str]]


@dataclass(frozen=True)
class Extracted:
    """Examples whose features are in the store."""

    done: int
    gone: dict[str, str]


class Extractor(Protocol):
    """Who computes features: an Executor, as far as this stage knows it."""

    featurizers: int
    """How many networks compute features side by side, at most."""

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        """Computes and stores features, chunk by chunk. Raises Overflow and what reading the source raises."""


def write_parts(store: Store, parts: Iterable[NewPart]) -> None:
    for part in parts:
        write_part(store, part.featurizer, part.addresses, part.values, part.rejects)
