"""What the command line makes of errors."""

from __future__ import annotations

import pytest

from job import cli


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fills_the_disk() -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    monkeypatch.setattr(cli, "thaw", fills_the_disk)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": No space left on device: make room, or set TMPDIR.")
