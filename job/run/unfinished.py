"""Deletes unfinished writes of killed attempts."""

from __future__ import annotations

from job.errors import AccessDenied
from job.run.events import Emit, Noted
from job.storage import Store


def forget_unfinished(store: Store, prefix: str, seconds: float, *, emit: Emit) -> None:
    """Deletes unfinished writes below the prefix that are older than this many seconds. Where that is not allowed, they
    stay, with a note.
    """
    try:
        store.forget_unfinished(prefix, seconds)
    except AccessDenied as error:
        emit(Noted(f"{error} What earlier attempts left half written stays."))
