from __future__ import annotations

from pathlib import Path

import pytest

from job.storage import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store/")
