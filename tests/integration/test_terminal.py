"""`thaw run` in a terminal, narrow and wide, with and without colours; and in a pipe."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.prepared import prepare_run
from support.terminal import Session, session

pytestmark = pytest.mark.slow
JOB = """
name: tiny
data: {{source: "file://{root}/source/"}}
store: "file://{root}/store/"
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 4, learning_rate: 3e-2}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}}
train: {{batch_size: 8}}
"""
NOISE = ("tensorflow", "keras.src", "ray::", "(pid=", "cuda", "warning", "Traceback", "I0000", "absl", "Error")
ESCAPE = re.compile(rb"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Sessions:
    """Three runs of one job, of which the last two find the features, one of them on Ray; and the last one, asked for
    again."""

    folder: Path
    narrow: Session
    wide: Session
    dumb: Session
    pipe: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    folder = tmp_path_factory.mktemp("terminal")
    command = [word for word in prepare_run(folder, JOB) if word != "--json"]
    narrow = session(folder, command, 80)
    wide = session(folder, [*command, "--new", "--set", "scaling.executor=ray"], 140, NO_COLOR="1")
    dumb = session(folder, [*command, "--new"], 80, TERM="dumb")
    pipe = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)
    return Sessions(folder, narrow, wide, dumb, pipe)


@pytest.mark.parametrize("which", ["narrow", "wide", "dumb"])
def test_the_screen_ends_with_what_was_found_and_nothing_else(sessions: Sessions, which: str) -> None:
    ended: Session = getattr(sessions, which)
    told = "\n".join(ended.lines)
    assert ended.status == 0, told
    assert [word for word in NOISE if word.lower() in told.lower()] == []
    assert "━" not in told, "bars leave nothing behind"
    assert " left  " not in told
    assert re.search(r"^ accuracy +[01]\.\d{4} +[01]\.\d{4}$", told, re.MULTILINE)
    assert re.search(rf"^run    file://{sessions.folder}/store/runs/tiny-[0-9a-f]{{12}}[^ ]*/$", told, re.MULTILINE)
    for name in ("model", "report"):
        (uri,) = re.findall(rf"^{name:<6} file://(.*)$", told, re.MULTILINE)
        assert Path(uri).exists()
    assert re.search(r"^  .* predict file://.*/model/\d+/ IMAGE…$", ended.lines[-1])


@pytest.mark.parametrize("which", ["narrow", "wide", "dumb"])
def test_only_what_is_to_be_copied_is_wider_than_the_screen(sessions: Sessions, which: str) -> None:
    ended: Session = getattr(sessions, which)
    wide = [line for line in ended.lines if len(line) > ended.width]
    assert [line for line in wide if not re.search(r"file://\S{40}", line)] == []
    for line in ended.lines:
        assert not re.fullmatch(r"\s*\S{1,4}( s)?", line), f"{line!r} is the rest of a line"


@pytest.mark.parametrize(
    ("which", "stages"),
    [
        ("narrow", {"starting to train", "exporting the model"}),
        ("wide", {"starting Ray", "starting a worker", "exporting the model"}),
    ],
)
def test_a_stage_that_does_not_know_how_far_it_is_shows_how_long_it_has_taken(
    sessions: Sessions, which: str, stages: set[str]
) -> None:
    ended: Session = getattr(sessions, which)
    found = re.findall(r"^ {5}[-\\|/] \d:\d\d:\d\d (.*)$", "\n".join(ended.screens), re.MULTILINE)
    shown = {words.partition(" (")[0].rstrip() for words in found}
    assert stages <= shown
    assert not any(re.match(r"^ {5}[-\\|/] \d:\d\d:", line) for line in ended.lines), "nothing of it stays"


@pytest.mark.parametrize("which", ["narrow", "wide"])
def test_a_stage_under_way_has_a_bar_of_one_line(sessions: Sessions, which: str) -> None:
    ended: Session = getattr(sessions, which)
    bars = ended.bars
    assert bars, "\n\n".join(ended.screens)
    for bar in bars:
        assert re.match(r"^ {7}[━╸╺ ]{12} +\d+ %  (\d:\d\d:\d\d left  )?(features: |head epoch |fine-tune epoch )", bar)
        assert len(bar.rstrip()) <= ended.width
        assert not bar.rstrip().endswith("…")
    assert all(screen.count(" %  ") <= 1 for screen in ended.screens)
    if which == "narrow":
        assert any("features: 0 of 83 examples" in bar for bar in bars), "while the processes start"


def test_colours_are_on_a_terminal_that_has_them_alone(sessions: Sessions) -> None:
    assert ESCAPE.search(sessions.narrow.raw)
    assert b"\x1b[33m" not in sessions.wide.raw
    coloured = {code for code in ESCAPE.findall(sessions.wide.raw) if re.search(rb"[34][0-7]", code)}
    assert coloured == set(), "NO_COLOR"
    assert b"\x1b" not in sessions.dumb.raw
    assert "training on 1 worker, from the start" in "\n".join(sessions.dumb.lines)
    assert sessions.narrow.raw.count(b"\x1b[?25h") >= sessions.narrow.raw.count(b"\x1b[?25l") > 0, "the cursor is back"


def test_a_pipe_has_a_document_a_line(sessions: Sessions) -> None:
    done = sessions.pipe
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["event"] for one in told][-1] == "result"
    assert "\x1b" not in done.stderr + done.stdout
    assert json.loads(done.stdout) == told[-1]["result"]
