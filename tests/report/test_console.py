"""What a person reads."""

from __future__ import annotations

import io

from rich.console import Console

from job.report.console import Narrator


def test_keys_are_told_as_they_are_whatever_brackets_they_have() -> None:
    output = io.StringIO()
    say = Narrator(Console(file=output, width=4096))
    say("rejects", total=1, listing={}, decoding=["red/[/old]/a[1].png: empty file"])
    say("warning", text="[bold] s3://bucket/[old]/x")
    assert "1 rejected: red/[/old]/a[1].png: empty file" in output.getvalue()
    assert "[bold] s3://bucket/[old]/x" in output.getvalue()
