"""When a phase has converged: early stopping on the validation loss, as a value that can be stored."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class EarlyStopping:
    """The best validation loss so far, and how many epochs have passed without a better one."""

    patience: int | None
    best_loss: float = float("inf")
    best_epoch: int = 0
    waited: int = 0

    def after(self, epoch: int, loss: float) -> EarlyStopping:
        if loss < self.best_loss:
            return replace(self, best_loss=loss, best_epoch=epoch, waited=0)
        return replace(self, waited=self.waited + 1)

    @property
    def converged(self) -> bool:
        return self.patience is not None and self.waited >= self.patience
