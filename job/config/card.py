"""`card`: what the model card says that nobody but you can know. None of it changes the result."""

from __future__ import annotations

from pydantic import Field

from job.config.base import Section


class Card(Section):
    licence: str | None = Field(None, min_length=1, max_length=200)
    """The licence of the model: an SPDX identifier (`apache-2.0`, `cc-by-nc-sa-4.0`), or its name."""
    intended_use: str | None = Field(None, min_length=1)
    """Who should use the model, for what."""
    limits: str | None = Field(None, min_length=1)
    """Where it should not be used, and what it is known not to do."""
    authors: list[str] = Field([])
    """Who answers for it."""
