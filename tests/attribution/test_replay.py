"""Replay tells what alters the computation, bit for bit, with few and short replays."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from simulated import Simulated

from truerun.attribution.laboratory import first_difference
from truerun.attribution.replay import STILL_POSSIBLE, replay


def harmless(subset: frozenset[int]) -> float:
    return 0.0


def test_three_active_changes_in_thirty_two_are_isolated() -> None:
    lab = Simulated(harmless, inert=frozenset(range(32)) - {4, 17, 30}, parallel=2)
    seen = replay(lab, range(32), 10)
    assert seen.deterministic
    assert set(seen.first_step) == {4, 17, 30}
    assert all(step == 2 for step in seen.first_step.values())
    assert seen.inert == frozenset(range(32)) - {4, 17, 30}
    assert seen.replays <= 2 + 2 * 3 * 5
    assert seen.steps_used == seen.replays * 10


def test_one_active_change_costs_about_two_log_replays() -> None:
    lab = Simulated(harmless, inert=frozenset(range(64)) - {40}, parallel=2)
    assert replay(lab, range(64), 3).replays <= 2 + 2 * 6 + 1


def test_what_acts_later_keeps_a_small_chance() -> None:
    """A trigger at step 50 shows in no replay of 20 steps: it is believed less, not acquitted."""
    lab = Simulated(harmless, late=frozenset({5}), parallel=2)
    seen = replay(lab, [5, 6], 20)
    assert 5 in seen.inert
    assert seen.weight(5) == STILL_POSSIBLE
    assert seen.weight(6) == 1.0


def test_a_job_that_does_not_repeat_itself_says_nothing() -> None:
    class Erratic(Simulated):
        def _steps(self, subset: frozenset[int], steps: int) -> tuple[str, ...]:
            return tuple(str(self.generator.integers(1 << 40)) for _ in range(steps))

    seen = replay(Erratic(harmless, parallel=2), range(8), 5)
    assert not seen.deterministic
    assert (dict(seen.first_step), seen.inert, seen.replays) == ({}, frozenset(), 2)


def test_unwatched_steps_are_not_taken_for_equal_ones() -> None:
    """No fingerprint at all (the probe saw no optimizer) is no evidence of sameness."""

    class Unseen(Simulated):
        def _steps(self, subset: frozenset[int], steps: int) -> tuple[str, ...]:
            return ()

    assert not replay(Unseen(harmless), range(8), 5).deterministic


def test_where_nearly_everything_is_active_it_gives_up_early() -> None:
    lab = Simulated(harmless, parallel=2)
    seen = replay(lab, range(128), 5)
    assert seen.replays <= 2 + 8 + 4 * 7 + 2


def test_the_first_difference_counts_from_one_and_sees_a_shorter_run() -> None:
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", "b"], ["a", "c"]) == 2
    assert first_difference(["a", "b"], ["a"]) == 2
    assert first_difference([], ["a"]) == 1
