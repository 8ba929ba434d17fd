"""Rule metric-spike."""

from __future__ import annotations

import numpy as np
import pytest

from truerun.monitoring.metric_spike import SpikeWatch


def losses(seed: int, steps: int = 600, noise: float = 0.1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 2.3 * np.arange(1, steps + 1) ** -0.3 * np.exp(noise * random.standard_normal(steps))


def found(values: np.ndarray) -> list[int | None]:
    watch = SpikeWatch("loss", 0)
    return [finding.location.step for step, value in enumerate(values, 1) for finding in watch.check(float(value), step)]


@pytest.mark.parametrize("factor", [4.0, 100.0])
def test_a_step_far_out(factor: float) -> None:
    """One batch of step 300 is broken: the loss is many times what it is around it."""
    values = losses(0)
    values[299] *= factor
    assert found(values) == [300]


@pytest.mark.parametrize(
    "values",
    [
        losses(1),
        losses(2, noise=0.5),
        np.abs(np.random.default_rng(3).standard_t(3, 2000)) + 0.01,
        np.random.default_rng(4).standard_normal(2000),
        np.exp(np.random.default_rng(5).standard_normal(2000)),
        1e-6 * np.exp(2 * np.random.default_rng(6).standard_normal(2000)) + np.r_[2.0 * np.ones(64), np.zeros(1936)],
        np.zeros(500),
        np.r_[np.ones(300), 1.15 * np.ones(300)],
    ],
    ids=["falling", "noisy", "heavy-tailed", "either sign", "log-normal", "learned by heart", "constant", "next stage"],
)
def test_losses_that_jump_by_habit(values: np.ndarray) -> None:
    """The accept twin: noise of every kind, a loss near zero, a curriculum's next stage."""
    assert found(values) == []


def test_not_a_number_is_another_rule() -> None:
    """NaN and infinity are `metric-not-finite`; they leave the watch as it was."""
    values = losses(0)
    values[200:210] = np.nan
    values[210] = np.inf
    assert found(values) == []
