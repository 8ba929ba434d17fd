"""How often is looked, given what it costs."""

from __future__ import annotations

import pytest

from truerun.adapters.pytorch.budget import CREDIT_SECONDS, FULL_STEPS, Budget


def spend(share: float, every: int | None, step_seconds: float, look_seconds: float, steps: int) -> tuple[float, int]:
    """Simulate *steps*; the share of the time that looking took, and how often was looked."""
    budget, now, due, looks = Budget(share, every), 0.0, 1, 0
    for step in range(1, steps + 1):
        budget.step(now)
        if step >= due or step <= FULL_STEPS:
            looks += 1
            budget.spent_seconds += look_seconds
            budget.sampled(look_seconds)
            due = step + budget.mean_gap(now)
            now += look_seconds
        now += step_seconds
    return budget.spent_seconds / now, looks


@pytest.mark.parametrize(("step", "look"), [(0.001, 0.0005), (0.004, 0.0005), (0.1, 0.002), (0.01, 0.1)])
def test_a_long_run_stays_within_the_share(step: float, look: float) -> None:
    """Two percent are two percent, whatever a step and a look take."""
    share, looks = spend(0.02, None, step, look, 40_000)
    assert share < 0.021
    assert looks > 40


def test_a_short_run_is_seen_whole() -> None:
    """The credit covers a short run."""
    assert spend(0.02, None, 0.001, 0.0005, int(CREDIT_SECONDS / 2 / 0.0005))[1] == int(CREDIT_SECONDS / 2 / 0.0005)


def test_every_step_when_told_so() -> None:
    """every = 1 is every step, at any cost."""
    assert spend(0.02, 1, 0.001, 0.01, 300)[1] == 300
    assert spend(0.02, 10, 0.001, 0.01, 300)[1] == pytest.approx(300 / 10, abs=6)
