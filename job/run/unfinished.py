"""What killed attempts have left half written."""

from __future__ import annotations

from job.errors import AccessDenied
from job.run.events import Emit, Noted
from job.storage import Store


def forget_unfinished(store: Store, prefix: str, seconds: float, emit: Emit) -> None:
    """Deletes what was left half written there, so many seconds ago or longer; where that is not allowed, it stays."""
    try:
        store.forget_unfinished(prefix, seconds)
    except AccessDenied as error:
        emit(Noted(f"{error} What earlier attempts left half written stays."))
