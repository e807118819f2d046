"""What workers agree on between steps."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from job.config import CheckpointPolicy
from job.training.control import FIRST_STEPS, MOST_STEPS, Control, StepDecision

NEVER = CheckpointPolicy(every_minutes=None)


def decision(controls: list[Control], position: int = 1, steps: int = 1, seconds: float = 1.0) -> StepDecision:
    """The answer to all votes, which must be the same for everybody."""
    votes = np.sum([control.votes(position) for control in controls], axis=0)
    answers = {control.decision(votes, steps, seconds) for control in controls}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize("who", [0, 2])
def test_who_has_to_stop_stops_all_once_a_checkpoint_is_kept(who: int) -> None:
    stops = [threading.Event() for _ in range(3)]
    controls = [Control(NEVER, rank, stop) for rank, stop in enumerate(stops)]
    assert decision(controls) == StepDecision(save=False, stop=False)
    stops[who].set()
    assert decision(controls) == StepDecision(save=True, stop=True)
    assert [bool(control.wants_stop()) for control in controls] == [rank == who for rank in range(3)]


def test_a_checkpoint_is_due_after_some_minutes_by_the_clock_of_the_first_worker() -> None:
    busy, now = [False], 1000.0
    policy = CheckpointPolicy(every_minutes=0.5)
    first = Control(policy, 0, is_busy=lambda: busy[0], clock=lambda: now)
    controls = [first, Control(policy, 1, clock=lambda: 2 * now)]
    now += 29
    assert not decision(controls).save
    now += 2
    busy[0] = True
    assert not decision(controls).save, "the one before it is still being uploaded"
    busy[0] = False
    assert decision(controls).save
    first.saved()
    assert not decision(controls).save


@pytest.mark.parametrize("busy_until", [0, 24])
def test_steps_end_where_a_checkpoint_is_due_and_one_that_would_have_to_wait_is_put_off(busy_until: int) -> None:
    position, saved = 0, []
    policy = CheckpointPolicy(every_steps=10, every_minutes=None)
    control = Control(policy, is_busy=lambda: position < busy_until)
    while position < 35:
        steps = control.steps(position, 35 - position)
        position += steps
        if decision([control], position, steps).save:
            saved.append(position)
            control.saved()
    assert saved == ([26, 30] if busy_until else [10, 20, 30])


def test_a_call_takes_about_a_second_whatever_a_step_takes() -> None:
    for seconds in (0.001, 0.02, 0.3, 5.0):
        controls = [Control(NEVER, rank) for rank in range(2)]
        steps = FIRST_STEPS
        for _ in range(20):
            decision(controls, 1, steps, steps * seconds)
            assert len({control.steps(0, 10**6) for control in controls}) == 1
            steps = controls[1].steps(0, 10**6)
        assert steps == max(1, min(MOST_STEPS, int(1 / seconds)))


def test_no_call_is_longer_than_what_is_left() -> None:
    assert Control(NEVER).steps(position=5, left=2) == 2
