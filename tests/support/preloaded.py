"""All that a run imports, so that what is forked from the process that imports this has it."""

from __future__ import annotations

from job.libraries import import_arrow, import_tensorflow

import_arrow()
import_tensorflow()

import job.cli  # noqa: E402, F401
