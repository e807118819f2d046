"""The numbers of a network that decide the cost of a run. They are stored, and read without TensorFlow.

runs/<run>/network.json   written beside the plan
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from job.model.classifier import Classifier, classifier_of
from job.storage import Store
from job.storage.documents import read_document, write_document
from job.storage.run_keys import RunKeys

if TYPE_CHECKING:
    import keras


class BlockSize(NamedTuple):
    """The numbers of a block of layers."""

    name: str
    layers: int
    parameters: int
    trainable: int
    """Parameters that train."""


@dataclass(frozen=True)
class Anatomy:
    """Numbers of a base in which the layers that fine-tuning trains are thawed. Work is in multiply-adds per
    example.
    """

    blocks: tuple[BlockSize, ...]
    """The blocks from the bottom to the top."""
    work: int
    """Work of the forward pass, from the inputs to the pooled features."""
    below: int
    """The part of `work` below the cut; 0 where fine-tuning starts from the inputs."""
    backward: int
    """Work of the gradients."""
    kept: int
    """Values per example that a step keeps for its gradients."""
    thawed: tuple[str, ...]
    """The names of the layers that train, from the bottom to the top."""
    classifier: Classifier | None = None
    """The classifier that the base ends in, which is probably a mistake; None where it ends in features."""

    @property
    def parameters(self) -> int:
        return sum(block.parameters for block in self.blocks)

    @property
    def trainable(self) -> int:
        return sum(block.trainable for block in self.blocks)


def anatomy_of(base: keras.Model, cut: str | None) -> Anatomy:
    """The anatomy of a base. `cut` is the layer at the cut; None where fine-tuning starts from the inputs."""
    from job.model.cut import cut_named
    from job.model.freezing import block_sizes
    from job.model.work import backward_work, forward_work, kept_values, nodes

    return Anatomy(
        blocks=tuple(block_sizes(base)),
        work=sum(map(forward_work, nodes(base))),
        below=cut_named(base, cut).work_below if cut else 0,
        backward=backward_work(base),
        kept=kept_values(base),
        thawed=tuple(layer.name for layer in base.layers if layer.trainable_variables),
        classifier=classifier_of(base),
    )


def write_anatomy(store: Store, run: str, anatomy: Anatomy) -> None:
    write_document(store, RunKeys(run).network, anatomy)


def read_anatomy(store: Store, run: str) -> Anatomy | None:
    """The stored anatomy of a run; None where the run was planned by a version that did not store it."""
    return read_document(store, RunKeys(run).network, Anatomy)
