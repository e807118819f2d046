"""Whether a run fits into its limits."""

from __future__ import annotations

import pytest

from job.config.jobfile import parse_job
from job.planning.costs import Range
from job.planning.limited import limit_cautions, limit_sections
from job.run.timings import StageTiming
from job.storage import Store
from job.storage.documents import write_document
from job.storage.run_keys import RunKeys

JOB = (
    "{name: any, data: {source: 'file:///source/'}, store: 'file:///store/', limits: {hours: 1}, scaling: {workers: 2}}"
)


@pytest.mark.parametrize(
    ("needed", "fits"),
    [
        (Range(600, 900, 1800), "yes"),
        (Range(600, 900, 1801), "perhaps"),
        (Range(1801, 2000, 3000), "no"),
        (None, "unknown"),
    ],
)
def test_what_earlier_attempts_have_taken_is_taken_off(needed: Range | None, fits: str, store: Store) -> None:
    taken = [StageTiming(number, "head", 900.0, 2, computed=None, stored=None) for number in (1, 2)]
    write_document(store, RunKeys("run").timings, taken)
    (section,) = limit_sections(parse_job(JOB), store, "run", needed=needed)
    assert (section.setting, section.limit, section.left, section.fits) == ("limits.hours", "1 h", 1800.0, fits)
    warned = [caution.text for caution in limit_cautions([section])]
    assert [text.startswith("1 h: 30 min of it is left, and the run is expected to take more") for text in warned] == (
        [True] if fits == "no" else []
    )


def test_a_job_without_limits_has_none(store: Store) -> None:
    job = parse_job(JOB.replace("{hours: 1}", "{}"))
    assert limit_sections(job, store, None, needed=Range(1, 2, 3)) == []
