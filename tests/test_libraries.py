"""What is written to standard error while a library is imported."""

from __future__ import annotations

import os

import pytest

from job.libraries import DEBUG, no_stderr


def test_standard_error_is_back_after_an_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    with pytest.raises(OSError, match="bad"), no_stderr():  # noqa: PT012
        os.write(2, b"kept back")
        raise OSError("bad")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
