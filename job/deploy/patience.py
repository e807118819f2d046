"""How long someone who looks waits for a server that is away: an upgrade of Kubernetes' API server takes minutes."""

from __future__ import annotations

import time

from job.errors import ThawError
from job.run.events import Emit, Noted

PATIENCE = 600.0
"""Seconds without an answer after which looking ends."""


class Patience:
    def __init__(self, emit: Emit) -> None:
        self._emit, self._heard, self._is_told = emit, time.monotonic(), False

    def heard(self) -> None:
        """The server has answered."""
        self._heard, self._is_told = time.monotonic(), False

    def missed(self, error: ThawError, *, over: bool = False) -> None:
        """Says once that it does not answer, but to nobody where all is `over`; raises the error when that lasts."""
        if time.monotonic() - self._heard > PATIENCE:
            raise error
        if not self._is_told and not over:
            self._is_told = True
            self._emit(Noted(f"{error} Looking again."))
