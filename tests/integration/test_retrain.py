"""A job that runs again on more data: what it computes, what it starts from, and which model is in use afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.config.jobfile import load_job
from job.data.snapshot import stored_snapshot
from job.errors import WriteConflict
from job.executors import executor_of
from job.features.cache_plan import featurizers, read_plan
from job.features.store import stored_features
from job.model.resolved import known_base, weights_request
from job.registry import promotion
from job.registry.champion import ChampionAnswers, load_model
from job.registry.current import Entry, put_current, read_current
from job.run.outcome import PromotionDecision, RunResult
from job.run.run import Run
from job.storage import Store, open_store
from job.storage.documents import decoded
from job.storage.run_keys import run_id_of
from support.images import encode, folder_of, picture
from support.networks import own_base

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
JOB = """
name: cells
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 8, learning_rate: 3e-2, warm_start: true}}
  fine_tune:
    {{unfreeze: {{from: conv_1}}, epochs: 2, warm_epochs: 1, learning_rate: 1e-2, allow_unconverged_head: true}}
train: {{batch_size: 16, cache: on}}
retrain_when: {{new_examples: 20, shift: 0.001}}
"""
WEAK = ("phases.head={epochs: 1, learning_rate: 1e-9}", "phases.fine_tune=null", "retrain_when=null")


class Place:
    """A folder of pictures, a store, and the job on them."""

    def __init__(self, root: Path, thaw: Thaw) -> None:
        self.root, self._thaw = root, thaw
        own_base(root / "own.keras")
        (root / "job.yaml").write_text(JOB.format(root=root))
        self.job = load_job(root / "job.yaml")
        self.source, self.store = open_store(self.job.data.source), open_store(self.job.store)
        for key, content in folder_of(120).items():
            self.source.write(key, content)

    def put(self, *numbers: int, label: str = "green", inverted: bool = False) -> None:
        for number in numbers:
            content = picture(number, "red" if inverted else "green")
            self.source.write(f"{label}/more {number:03d}.png", content)

    def run(self, *changes: str) -> dict[str, Any]:
        words = [word for change in changes for word in ("--set", change)]
        done = self._thaw("run", str(self.root / "job.yaml"), "--json", *words)
        assert done.returncode == 0, done.stderr
        self.told = done.stderr
        return json.loads(done.stdout)

    def current(self) -> str:
        found = read_current(self.store, "cells")
        assert found is not None
        return f"{self.store.uri}runs/{found.run}/"

    def features(self, result: dict[str, Any]) -> dict[str, set[bytes]]:
        """The examples whose features are stored, by tap."""
        model = load_model(self.store, id_of(result))
        plan = read_plan(self.store, id_of(result))
        assert plan is not None
        pooled, inputs = featurizers(self.job, model.base, plan)
        return {f.tap: set(stored_features(self.store, f).addresses.tolist()) for f in (*pooled, *inputs)}


def id_of(result: dict[str, Any]) -> str:
    return str(result["run"]).rstrip("/").rpartition("/")[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, here: Thaw) -> Place:
    return Place(tmp_path_factory.mktemp("retrain"), here)


@pytest.fixture(scope="module")
def first(place: Place) -> dict[str, Any]:
    return place.run(*WEAK)


@pytest.fixture(scope="module")
def second(place: Place, first: dict[str, Any]) -> dict[str, Any]:
    """After 20 more, of which 6 are of a new class; one was deleted, and one has another label."""
    place.put(*range(14))
    pixels = np.random.default_rng(0).integers(0, 60, (40, 40, 3))
    pixels[:, :, 2] += 150
    for number in range(6):
        place.source.write(f"blue/{number}.png", encode((pixels + number).astype(np.uint8)))
    place.source.delete("green/image 000.png")
    place.source.write("red/image 002.png", place.source.read("green/image 002.png"))
    place.source.delete("green/image 002.png")
    place.before = place.features(first)  # type: ignore[attr-defined]
    return place.run()


def test_the_first_model_is_put_into_use(place: Place, first: dict[str, Any]) -> None:
    assert first["promotion"]["promoted"]
    assert first["promotion"]["against"] is None
    promoted = json.loads(place.store.read(f"runs/{id_of(first)}/promotion.json"))
    assert promoted == first["promotion"]


def test_only_what_is_new_or_changed_is_computed(place: Place, first: dict[str, Any], second: dict[str, Any]) -> None:
    before, after = place.before["pooled"], place.features(second)["pooled"]  # type: ignore[attr-defined]
    assert before < after
    assert len(after - before) == 14 + 6 + 1
    assert second["classes"] == ["blue", "green", "red"]
    snapshot = stored_snapshot(place.store, second["snapshot"])
    assert snapshot is not None
    assert snapshot.examples == 120 + 20 - 1
    assert "train? new classes: blue" in place.told


def test_the_head_starts_from_that_of_the_model_in_use(
    place: Place, first: dict[str, Any], second: dict[str, Any]
) -> None:
    decided = json.loads(place.store.read(f"runs/{id_of(second)}/warm_start.json"))
    assert decided["source"] == {"run": id_of(first), "classes": ["green", "red"], "fine_tuned": False}
    assert "new classes start afresh: blue" in decided["reason"]
    history = json.loads(place.store.read(f"runs/{id_of(second)}/training.json"))["history"]
    assert history["head"][0]["epoch"] == 0, "what it starts from counts as the best so far"


def test_the_better_model_is_put_into_use_on_the_same_test_examples(
    place: Place, first: dict[str, Any], second: dict[str, Any]
) -> None:
    decided = second["promotion"]
    assert decided["promoted"], decided["reason"]
    assert decided["against"] == id_of(first)
    assert decided["examples"] == second["metrics"]["head"]["examples"]
    assert decided["candidate"] > decided["current"] + 0.1
    assert [row["class"] for row in decided["classes"]] == ["blue", "green", "red"]
    assert place.current() == second["run"]


def test_a_finished_run_is_judged_once(place: Place, second: dict[str, Any]) -> None:
    assert place.run() == second
    assert "nothing is left to do" in place.told


def test_a_worse_model_is_not_put_into_use(place: Place, second: dict[str, Any]) -> None:
    worse = place.run(*WEAK)
    assert not worse["promotion"]["promoted"], worse["promotion"]["reason"]
    assert worse["promotion"]["current"] > worse["promotion"]["candidate"]
    assert "promote.min_gain" in worse["promotion"]["reason"]
    assert place.current() == second["run"]


def test_a_run_that_is_not_worth_it_says_why_and_trains_nothing(place: Place, second: dict[str, Any]) -> None:
    place.put(*range(40, 52))
    left = place.run()
    assert (left["state"], left["model"], left["decision"]["train"]) == ("not worth it", None, False)
    assert left["decision"]["new_examples"] == 12
    assert left["decision"]["p_value"] > 0.01
    assert "features are as before" in left["decision"]["reason"]
    assert place.store.stat(f"runs/{id_of(left)}/training.json") is None
    assert place.current() == second["run"]


def test_a_run_whose_new_examples_look_otherwise_is_worth_it_and_goes_on_from_what_was_thawed(
    place: Place, second: dict[str, Any]
) -> None:
    assert second["kept"] == "fine_tune"
    place.put(*range(60, 72), inverted=True)
    decided = place.run("retrain_when={new_examples: null, shift: 0.05}", "phases.head.epochs=1")
    assert decided["state"] == "finished"
    assert "features have shifted" in place.told
    assert f"the head and the thawed layers start from those of {id_of(second)}" in place.told
    history = json.loads(place.store.read(f"runs/{id_of(decided)}/training.json"))["history"]
    assert [record["epoch"] for record in history["fine_tune"]] == [0, 1], "warm_epochs"


def test_a_killed_attempt_is_judged_by_the_next_one(place: Place, second: dict[str, Any]) -> None:
    """Killed when its model was in use already, before that was written down."""
    place.store.delete(f"runs/{id_of(second)}/promotion.json")
    found = read_current(place.store, "cells")
    judged = place_judged(place, second)
    assert judged.promoted
    assert judged.against == second["promotion"]["against"]
    assert read_current(place.store, "cells") == found, "nothing is written twice"


def place_judged(place: Place, printed: dict[str, Any], job: Any = None) -> PromotionDecision:
    """`printed` is what `thaw run --json` has printed."""
    result = decoded(json.dumps(printed).encode(), RunResult, "what was printed")
    snapshot = stored_snapshot(place.store, result.snapshot)
    assert snapshot is not None
    job = job or place.job
    with executor_of(job, False, unheard) as (job, executor):
        base = known_base(place.store, weights_request(job.model, job.train.seed))
        run = Run(job, run_id_of(result.run), place.store, snapshot, base)
        return promotion.judge(run, job.promote, result, executor=executor, emit=unheard)


def unheard(kind: str, **event: Any) -> None:
    pass


def test_of_two_runs_that_finish_together_the_later_one_is_compared_with_the_earlier(
    place: Place, second: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = place.store
    before = read_current(store, "cells")
    other = replace(before.entry, run="cells-other") if before else None
    assert isinstance(other, Entry)
    asked: list[str] = []

    def answers(run: Run, kept: str, champion: str, *_: Any, **__: Any) -> ChampionAnswers:
        asked.append(champion)
        right = np.arange(60) < 50
        return ChampionAnswers(np.arange(60) % 3, right, np.arange(60) < (55 if champion == "cells-other" else 20))

    def beaten(store: Store, name: str, entry: Entry, **_: Any) -> None:
        put_current(store, name, other, before=read_current(store, name))
        raise WriteConflict("written since")

    monkeypatch.setattr(promotion, "answers", answers)
    monkeypatch.setattr(promotion, "put_current", beaten)
    third = {**second, "run": f"{store.uri}runs/cells-third/"}
    judged = place_judged(place, third)
    assert asked == [id_of(second), "cells-other"]
    assert (judged.promoted, judged.against) == (False, "cells-other")
    current = read_current(store, "cells")
    assert current is not None
    assert [current.run, current.previous[0].run] == ["cells-other", id_of(second)]
    put_current(store, "cells", replace(other, run=id_of(second)), before=current)


def test_a_model_whose_run_was_deleted_is_not_compared_with(place: Place, second: dict[str, Any]) -> None:
    current = read_current(place.store, "cells")
    assert current is not None
    put_current(place.store, "cells", replace(current.entry, run="cells-deleted"), before=current)
    judged = place_judged(place, {**second, "run": f"{place.store.uri}runs/cells-new/"})
    assert not judged.promoted
    assert "files of this run are gone" in judged.reason
    put_current(place.store, "cells", current.entry, before=read_current(place.store, "cells"))


def test_rolling_back_by_the_command_line(place: Place, here: Thaw, first: dict[str, Any], tmp_path: Path) -> None:
    current = read_current(place.store, "cells")
    assert current is not None
    done = here("rollback", f"{place.store.uri}jobs/cells/")
    assert done.returncode == 0, done.stderr
    assert f"in use again (run {current.previous[0].run})" in done.stdout
    assert f"in place of that of run {current.run}" in done.stdout
    done = here("promote", first["run"])
    assert done.returncode == 0, done.stderr
    assert place.current() == first["run"]
    done = here("rollback", str(tmp_path))
    assert done.returncode == 2
    assert "there is no job file" in done.stderr
