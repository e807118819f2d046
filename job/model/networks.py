"""The networks of runs and of the extract stage; with glove, each knows the words that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from job.config import GLOVE, Job, UnfreezeWords
from job.errors import StorageError
from job.model.resolved import ResolvedBase
from job.storage import Store
from job.text.vocabulary import described_vectors, kept_vectors, read_vocabulary

if TYPE_CHECKING:
    import keras

    from job.model.network import Network
    from job.model.words import Vocabulary


def network_of_run(job: Job, store: Store, run: str, *, resolved: ResolvedBase, classes: int) -> Network:
    """The network before training: the base with its pretrained weights, and a head with its initial ones."""
    return with_head(job, base_of_run(job, store, run, resolved=resolved), classes)


def with_head(job: Job, base: keras.Model, classes: int) -> Network:
    """The network of the base and a head with its initial weights."""
    from job.model.heads import build_head
    from job.model.network import build_network

    features, model = base.output_shape[-1], job.model
    return build_network(
        base,
        build_head(features, model.head, classes, seed=job.train.seed, encoder=model.encoder, words=model.max_tokens),
    )


def base_of_run(job: Job, store: Store, run: str, *, resolved: ResolvedBase) -> keras.Model:
    """The base network of a run. With glove, it holds the words that occur in the run; the words that fine-tuning
    trains (the most frequent ones of the train split) are a separate table. Raises StorageError.
    """
    if job.model.backbone != GLOVE:
        return _loaded(job, store, resolved, vocabulary=None)
    from job.model.words import Vocabulary

    ids, train = read_vocabulary(store, run)
    _, known, values = kept_vectors(store, resolved.weights_sha256)
    if not np.isin(ids, known).all():
        raise StorageError(f"{store.uri}vectors/ lacks words of {run}: start the run with --new.")
    rule = job.phases.fine_tune and job.phases.fine_tune.unfreeze
    trained = int((train > 0).sum()) if rule else 0
    if isinstance(rule, UnfreezeWords):
        trained = min(trained, rule.words)
    return _loaded(job, store, resolved, vocabulary=Vocabulary(ids, values[np.searchsorted(known, ids)], trained))


def base_of_store(job: Job, store: Store, resolved: ResolvedBase) -> keras.Model:
    """The base network of a store. With glove, it holds all words that any run of this store has looked up. The
    features of a text are the same in each network that knows its words. Raises StorageError.
    """
    if job.model.backbone != GLOVE:
        return _loaded(job, store, resolved, vocabulary=None)
    from job.model.words import Vocabulary

    _, ids, values = kept_vectors(store, resolved.weights_sha256)
    if not len(ids):  # no word was looked up so far: the shapes are right already
        dimensions = described_vectors(store, resolved.weights_sha256)["dimensions"]
        ids, values = np.ones(1, np.int64), np.zeros([1, dimensions], np.float32)
    return _loaded(job, store, resolved, vocabulary=Vocabulary(ids, values, trained=1))


def _loaded(job: Job, store: Store, resolved: ResolvedBase, *, vocabulary: Vocabulary | None) -> keras.Model:
    from job.model.weights import load_base

    return load_base(job.model, store, resolved, vocabulary=vocabulary)
