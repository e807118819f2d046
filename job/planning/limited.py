"""Whether a run fits into its `limits`, by the time that it is estimated to take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from job.config import Job
from job.data.caution import Caution
from job.planning.costs import Range
from job.planning.forecast_document import LimitSection
from job.run.budget import limits_of, taken_of
from job.run.timings import read_timings
from job.storage import Store
from job.wording import duration


def limit_sections(job: Job, store: Store, run: str | None, *, needed: Range | None) -> list[LimitSection]:
    """What is left of each limit, the tightest first, beside the seconds that are needed."""
    workers = job.scaling.max_workers
    taken = taken_of(read_timings(store, run) if run else [], workers)
    return [
        LimitSection(limit.name, limit.text, round(limit.left, 1), _fits(limit.left, needed))
        for limit in limits_of(job, taken, workers, now=datetime.now(UTC))
    ]


def limit_cautions(sections: list[LimitSection]) -> Iterator[Caution]:
    for section in sections:
        if section.fits == "no":
            left = f"{duration(section.left)} of it is left" if section.left > 0 else "nothing of it is left"
            yield Caution(
                section.setting,
                f"{section.limit}: {left}, and the run is expected to take more: it would end before, with exit code 7 "
                "and a checkpoint. Raise it, or train less.",
            )


def _fits(left: float, needed: Range | None) -> Literal["yes", "no", "perhaps", "unknown"]:
    if left <= 0:
        return "no"
    if needed is None:
        return "unknown"
    return "yes" if needed.high <= left else "no" if needed.low > left else "perhaps"
