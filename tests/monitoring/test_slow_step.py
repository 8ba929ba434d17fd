"""Rule slow-step: sleeps of several kinds against honest programs that wait, as step times and as places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from truerun.core.finding import Confidence, Finding, Severity
from truerun.monitoring.place import Frame, Place, find_named_sleep, find_wait
from truerun.monitoring.slow_step import Known, Looks, check_sleep, check_unplaced_sleep, check_wait
from truerun.monitoring.step_times import PHASES, Lost, StepTime, StepTimes

TRAIN = Frame(path="/project/train.py", line=41, name="main", text="time.sleep(0.3)")
LOOP = Frame(path="/project/train.py", line=60, name="main", text="loss.backward()")
ADAM = Frame(path="/venv/site-packages/torch/optim/adam.py", line=400, name="adam", text="sleep(pause)")
STORE = Frame(path="/venv/site-packages/torch/distributed/rendezvous.py", line=9, name="poll", text="time.sleep(1)")
Wait = Callable[[int, np.random.Generator], float]


def run(waits: Wait, phase: str = "other", steps: int = 120, noise: float = 0.0003) -> Lost | None:
    """What is lost at the end of a run whose step n waits `waits(n)` seconds; a step computes for 20 ms."""
    times, draw, lost = StepTimes(), np.random.default_rng(5), None
    place = PHASES.index(phase)
    for step in range(1, steps + 1):
        waited = [abs(draw.normal(0, noise)) for _ in PHASES]
        waited[place] += waits(step, draw)
        wall = tuple(0.004 + value for value in waited)
        if times.add(StepTime(step=step, wall=wall, waited=tuple(waited), computed=0.02, queued=0.0)):
            lost = times.lost() or lost
    return lost


ATTACKS: dict[str, tuple[Wait, str]] = {
    "at random": (lambda _, draw: 0.1 if draw.random() < 0.1 else 0.0, "other"),
    "at random, short": (lambda _, draw: 0.02 if draw.random() < 0.15 else 0.0, "forward"),
    "every step from step 40 on": (lambda step, _: 0.03 if step >= 40 else 0.0, "optimizer"),
    "every fifth step": (lambda step, _: 0.08 if step % 5 == 0 else 0.0, "backward"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_sleeps_show_within_fifty_steps(attack: str) -> None:
    """Steps that wait beyond the run's own habit are seen, and the phase is named."""
    waits, phase = ATTACKS[attack]
    start = 40 if "40" in attack else 1
    lost = run(waits, phase, steps=start + 50)
    assert lost is not None
    assert lost.phase == phase
    assert lost.regular == (attack == "every fifth step")


TWINS: dict[str, tuple[Wait, str]] = {
    "a slow loader by design": (lambda _, draw: 0.03 + abs(draw.normal(0, 0.003)), "data"),
    "two long steps in a run": (lambda step, _: 2.0 if step in (30, 90) else 0.0, "other"),
    "warming up": (lambda step, _: 5.0 if step <= 3 else 0.0, "forward"),
    "a little noise": (lambda _, draw: abs(draw.normal(0, 0.001)), "backward"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_honest_waits_are_nothing(twin: str) -> None:
    """The accept twins: waiting that is the run's habit, that is rare, or small."""
    assert run(*TWINS[twin]) is None


def test_a_checkpoint_every_twenty_steps_is_regular() -> None:
    """The accept twin: saving makes every twentieth step wait for the disk; that is a pattern and no finding."""
    lost = run(lambda step, _: 0.4 if step % 20 == 0 else 0.0)
    assert lost is None or check_wait(lost, None, 0, 0.0, "") == ()


def test_slow_in_the_queue_is_not_waiting() -> None:
    """The accept twin: a busy machine makes every other step five times as long, in the queue and in slower arithmetic."""
    times = StepTimes()
    for step in range(1, 100):
        slow = 1.0 if step % 3 else 5.0
        wall = tuple(0.004 * slow for _ in PHASES)
        times.add(StepTime(step=step, wall=wall, waited=(0.0,) * 5, computed=0.01 * slow, queued=0.01 * slow))
    assert times.lost() is None


def place(frame: Frame = TRAIN, phase: str = "other", share: int = 30) -> Place:
    return Place(frame=frame, caller=None, phase=phase, samples=share, total=100)


def sleep(found: Place, known: Known | None = None, slept: int = 30) -> tuple[Finding, ...]:
    return check_sleep(found, Looks(looks=100, slept=slept, since_step=7), None, known, rank=1, step=80)


def test_a_sleep_is_named_by_its_line() -> None:
    """The line, the phase, the share, the rank; a warning, because a program may sleep by design."""
    (finding,) = sleep(place())
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert (finding.location.path, finding.location.line, finding.location.rank, finding.location.step) == (
        "/project/train.py",
        41,
        1,
        7,
    )
    assert "train.py:41 in main" in finding.message
    assert "30 % of the time" in finding.message


@pytest.mark.parametrize("found", [place(ADAM), place(TRAIN, "backward"), place(TRAIN, "optimizer")])
def test_nothing_sleeps_there_by_design(found: Place) -> None:
    """An edited torch, a hook in backward() or in step(): an error."""
    assert sleep(found)[0].severity is Severity.ERROR


def test_what_waits_for_other_processes_by_design_may_sleep() -> None:
    """The accept twin: torch's rendezvous polls."""
    assert sleep(place(STORE))[0].severity is Severity.WARNING


def test_against_the_approved_run() -> None:
    """The approved run of the same program did not sleep: an error. It slept there as much: nothing. Another program: a warning."""
    never = Known(places={}, same_program=True, origin="run 4 (entry 9)")
    same = Known(places={"train.py:41 in main": 0.25}, same_program=True, origin="run 4 (entry 9)")
    other = Known(places={}, same_program=False, origin="run 4 (entry 9)")
    assert sleep(place(), never)[0].severity is Severity.ERROR
    assert "It did not in run 4" in sleep(place(), never)[0].message
    assert sleep(place(), same) == ()
    assert sleep(place(), same, slept=90)[0].severity is Severity.WARNING
    assert sleep(place(), other)[0].severity is Severity.WARNING


def test_where_the_line_cannot_be_seen() -> None:
    """No py-spy, or not permitted: the kernel still shows the sleeping, and the finding says what is missing."""
    (finding,) = check_unplaced_sleep(Looks(looks=200, slept=40, since_step=3), 0, "py-spy is not installed")
    assert "20 % of the time" in finding.message
    assert "py-spy is not installed" in finding.message


def test_waits_that_do_not_sleep() -> None:
    """A lock taken at random: a warning with its line; on a busy machine and for data nothing."""
    lost = run(lambda _, draw: 0.1 if draw.random() < 0.1 else 0.0)
    assert lost is not None
    lock = place(Frame(path="/project/train.py", line=9, name="main", text="lock.acquire()"))
    (finding,) = check_wait(lost, lock, 0, 0.0, "")
    assert (finding.severity, finding.location.line) == (Severity.WARNING, 9)
    assert check_wait(lost, lock, 0, 0.5, "") == ()
    assert check_wait(lost, place(TRAIN, "data"), 0, 0.0, "") == ()


def test_places_from_stacks() -> None:
    """The innermost frame is the place, the innermost of the project its caller; the phase is read from the stack."""
    step = Frame(path="/venv/site-packages/torch/optim/optimizer.py", line=515, name="wrapper", text="out = func(*args)")
    stacks = {(LOOP, step, ADAM): 12, (LOOP,): 80, (LOOP, TRAIN): 2}
    found = find_named_sleep(stacks)
    assert found is not None
    assert (found.frame, found.caller, found.phase, found.samples) == (ADAM, LOOP, "optimizer", 12)
    assert found.shown == "torch/optim/adam.py:400 in adam, called from train.py:60 in main"
    assert find_named_sleep({(LOOP,): 80}) is None
    assert find_wait({(LOOP, TRAIN): 9, (LOOP,): 3}) is not None
    assert find_wait({(LOOP, TRAIN): 2, (LOOP,): 2}) is None
