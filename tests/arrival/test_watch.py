"""The watcher's turns, with a clock, a queue and decisions that the tests control."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from job.arrival.launch import CREATED, DEFERRED, EXISTS, NOT_WORTH_IT, TOO_FEW, Launched
from job.errors import ClusterError, Interrupted, JobError, ObjectMissing, StorageError
from support.arrivals import ACCOUNT, OWNER, TEST_EVENT, bridge_event, s3_event
from support.following import until
from support.kube import Kube
from support.watching import Watching


def arrive(watching: Watching, *keys: str, bucket: str = "cells") -> list[str]:
    return [watching.messages.send(s3_event(bucket, f"images/{key}")) for key in keys]


def test_many_arrivals_are_one_decision_after_which_they_are_deleted(watching: Watching) -> None:
    ids = arrive(watching, *map(str, range(35)), "1", "2", "3")
    watching.turn(50)
    assert watching.launched == []
    watching.turn(20)
    assert watching.launched == ["cells"]
    assert watching.messages.deleted == ids
    assert watching.counted("messages_total", outcome="covered") == 38
    assert watching.counted("rayjobs_created_total", job="cells") == 1
    (line,) = watching.told("decision")
    assert (line["job"], line["outcome"], line["rayjob"]) == ("cells", "created", "cells-1")


def test_nothing_is_deleted_before_the_rayjob_is_there(watching: Watching) -> None:
    def dies(*_: Any, **__: Any) -> Launched:
        assert watching.messages.deleted == []
        raise ClusterError("the API server is away")

    ids = arrive(watching, "a", "b")
    watching.decide = dies
    with pytest.raises(ClusterError):
        watching.turn(70)
    assert watching.messages.deleted == []
    watching.decide = lambda *_, **__: Launched(EXISTS, "cells-1")
    watching.turn(10)
    assert watching.messages.deleted == ids


def test_what_comes_while_a_snapshot_is_taken_belongs_to_the_next_round(watching: Watching) -> None:
    first, late = arrive(watching, "a"), []

    def writer(*_: Any, **__: Any) -> Launched:
        if not late:
            late.extend(arrive(watching, "late"))
            watching.watcher.receive(0)
        return Launched(CREATED, "cells-1")

    watching.decide = writer
    watching.turn(70)
    assert watching.messages.deleted == first
    watching.turn(70)
    assert watching.messages.deleted == first + late
    assert watching.launched == ["cells", "cells"]


def test_messages_stay_hidden_for_as_long_as_they_are_held() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 900, "max_wait": 900}])
    arrive(watching, "a", "b")
    watching.turn()
    for _ in range(80):
        watching.turn(10)
        assert watching.messages.visible() == 0
    assert set(watching.messages.receives.values()) == {1}


def test_a_message_that_the_queue_hides_no_longer_is_let_go_and_comes_again() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 5000, "max_wait": 5000}])
    arrive(watching, "a")
    watching.turn(880)
    assert watching.counted("messages_total", outcome="released") == 0
    watching.turn(40)
    assert watching.counted("messages_total", outcome="released") == 1
    assert watching.messages.deleted == []
    watching.turn()
    assert len(watching.watcher.held) == 1
    assert watching.messages.receives == {"m0": 2}


def test_a_message_that_lapsed_is_not_covered_by_what_was_held(watching: Watching) -> None:
    """As when the machine was suspended: someone else may have it now."""
    arrive(watching, "a")
    watching.turn()
    watching.clock.forward(500)
    watching.watcher.extend()
    assert len(watching.watcher.held) == 0
    assert not watching.watcher.held.wait_until_due("cells", 0)
    assert watching.told("lapsed")[0]["messages"] == 1
    watching.turn(70)
    assert watching.messages.deleted == ["m0"]


def test_a_message_that_comes_twice_is_held_once_with_its_latest_handle() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 150}])
    arrive(watching, "a")
    watching.turn()
    watching.clock.forward(101)
    watching.turn()
    assert len(watching.watcher.held) == 1
    watching.turn(50)
    assert watching.messages.deleted == ["m0"], "it is no arrival of its own"
    assert watching.launched == ["cells"]


HOSTILE = ["hello", s3_event("others", "images/a"), bridge_event("others", "a"), "[" * 100_000]


def test_what_is_refused_is_told_of_once_and_left_to_the_dead_letters(watching: Watching) -> None:
    watching.messages.most_receives = 3
    bad = [watching.messages.send(body) for body in HOSTILE]
    good = arrive(watching, "a")
    for _ in range(50):
        watching.turn(10)
    assert watching.messages.deleted == good, "they block nobody"
    assert sorted(watching.messages.dead) == sorted(bad)
    assert sorted(line["message"] for line in watching.told("refused")) == sorted(bad)
    assert watching.counted("messages_total", outcome="refused") == len(bad)
    assert all(watching.messages.receives[id] == 3 for id in bad), "they are not kept hidden"


def test_another_accounts_bucket_is_refused() -> None:
    watching = Watching([{"name": "cells"}], account="999900001111")
    watching.messages.send(bridge_event("cells", "images/a"))
    watching.turn()
    assert "another account's" in watching.told("refused")[0]["reason"]


def test_plain_events_of_s3_are_taken_where_the_account_is_a_number_and_that_is_said_once() -> None:
    watching = Watching([{"name": "cells"}], account=ACCOUNT)
    ids = arrive(watching, *map(str, range(3)))
    watching.turn(70)
    assert watching.messages.deleted == ids
    (warning,) = watching.told("warning")
    assert warning["text"].startswith("account: nothing in it compares with events that tell their bucket's owner as")
    assert f"ownerIdentity.principalId ({OWNER!r} in this one)" in warning["text"]
    assert watching.told("refused") == []


def test_events_of_the_stores_own_bucket_are_deleted_at_once() -> None:
    watching = Watching([{"name": "cells", "store": "s3://models/thaw/"}])
    id = watching.messages.send(s3_event("models", "thaw/runs/cells-1/result.json"))
    watching.turn()
    assert watching.messages.deleted == [id]
    assert watching.counted("messages_total", outcome="ignored") == 1
    assert watching.told("refused") == []


def test_a_second_signal_does_not_cut_short_what_is_released() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 900}], time.monotonic)
    ids, release = arrive(watching, "a", "b"), watching.queue.release

    def slowly(handles: list[str]) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        release(handles)

    watching.queue.release = slowly  # type: ignore[method-assign]

    def stop() -> None:
        until(lambda: len(watching.watcher.held) == len(ids))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        watching.watcher.run()
    assert watching.messages.visible() == len(ids)
    assert watching.told("end")[0]["released"] == len(ids)


def test_what_does_not_concern_the_data_is_deleted_at_once(watching: Watching) -> None:
    for body in (
        TEST_EVENT,
        s3_event("cells", "thaw/runs/cells-1/result.json"),
        s3_event("cells", "elsewhere/a.png"),
        s3_event("cells", "images/a.png", "ObjectTagging:Put"),
    ):
        watching.messages.send(body)
    watching.turn()
    assert len(watching.messages.deleted) == 4
    assert watching.counted("messages_total", outcome="test") == 1
    assert watching.counted("messages_total", outcome="ignored") == 3
    assert watching.launched == []


@pytest.mark.parametrize("outcome", [EXISTS, "finished", TOO_FEW, NOT_WORTH_IT])
def test_what_needs_no_rayjob_is_deleted_too(outcome: str, watching: Watching) -> None:
    arrive(watching, "a")
    watching.decide = lambda *_, **__: Launched(outcome, reason="why")
    watching.turn(70)
    assert watching.messages.deleted == ["m0"]
    assert watching.counted("decisions_total", job="cells", outcome=outcome) == 1
    assert watching.counted("rayjobs_created_total", job="cells") == 0
    assert watching.told("decision")[0]["reason"] == "why"


def test_what_waits_for_an_active_run_is_held(watching: Watching) -> None:
    arrive(watching, "a")
    watching.decide = lambda *_, **__: Launched(DEFERRED, "cells-0", reason="cells-0 is active")
    watching.turn(300)
    assert watching.messages.deleted == []
    assert watching.messages.visible() == 0
    watching.decide = lambda *_, **__: Launched(CREATED, "cells-1")
    watching.turn(10)
    assert watching.messages.deleted == ["m0"]


def test_a_message_for_two_jobs_is_deleted_when_both_have_it() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 30}, {"name": "cells2", "quiet_for": 100}])
    arrive(watching, "a")
    watching.turn(50)
    assert watching.launched == ["cells"]
    assert watching.messages.deleted == []
    watching.turn(60)
    assert watching.launched == ["cells", "cells2"]
    assert watching.messages.deleted == ["m0"]


def test_failures_are_told_and_tried_again_with_longer_pauses(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(watching.watcher._over, "wait", pauses.append)
    watching.queue.fails = [StorageError("away"), StorageError("away"), ValueError("a bug")]
    for _ in range(4):
        watching.watcher._attempt("queue", lambda: watching.watcher.receive(0))
    assert pauses == [1, 2, 4]
    errors = watching.told("error")
    assert [error["text"] for error in errors] == ["away", "away", "ValueError: a bug"]
    assert ["traceback" in error for error in errors] == [False, False, True]
    assert watching.counted("errors_total", where="queue") == 3
    watching.queue.fails = [StorageError("away")]
    watching.watcher._attempt("queue", lambda: watching.watcher.receive(0))
    assert pauses[-1] == 1, "it had worked in between"


def test_it_is_ready_while_the_queue_answers(watching: Watching) -> None:
    watcher = watching.watcher
    assert not watcher.is_ready()
    assert watcher.is_alive()
    watcher.receive(0)
    assert watcher.is_ready()
    watching.clock.forward(200)
    assert not watcher.is_ready()
    watching.clock.forward(1000)
    assert not watcher.is_alive()


def test_a_queue_that_does_not_exist_ends_it_before_the_first_message_and_not_later(watching: Watching) -> None:
    watching.queue.fails = [ObjectMissing("there is no such queue")]
    with pytest.raises(JobError, match="no such queue"):
        watching.watcher.run()


def test_with_until_empty_it_ends_when_all_is_covered(kube: Kube) -> None:
    watching = Watching([{"name": "cells", "quiet_for": 0.2, "max_wait": 1}], time.monotonic)
    ids = arrive(watching, "a", "b")
    watching.watcher.run(until_empty=True)
    assert watching.messages.deleted == ids
    assert watching.told("end") == [{**watching.told("end")[0], "released": 0}]


def test_no_more_than_so_many_messages_are_held() -> None:
    watching = Watching([{"name": "cells", "quiet_for": 0.3, "max_wait": 1}], time.monotonic, max_held=10)
    most = [0]

    def launch(*_: Any, **__: Any) -> Launched:
        most[0] = max(most[0], len(watching.watcher.held))
        return Launched(EXISTS, "cells-1")

    watching.decide = launch
    arrive(watching, *map(str, range(45)))
    thread = threading.Thread(target=watching.watcher.run, args=(True,))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(watching.messages.deleted) == 45
    assert most[0] <= 20, "the cap, and what one receipt brings"
