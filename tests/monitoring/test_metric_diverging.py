"""Rule metric-diverging."""

from __future__ import annotations

import numpy as np
import pytest

from truerun.monitoring.metric_diverging import DivergenceWatch

STEPS = np.arange(1, 801)
NOISE = np.exp(0.1 * np.random.default_rng(0).standard_normal(800))
FALLING = 2.3 * STEPS**-0.3 * NOISE


def found(values: np.ndarray) -> list[int | None]:
    watch = DivergenceWatch("loss", 0)
    return [finding.location.step for step, value in enumerate(values, 1) for finding in watch.check(float(value), step)]


def test_fell_and_came_back_above() -> None:
    """From step 400 on the gradient's sign is wrong: the loss climbs past where it began; told once, within a hundred steps."""
    values = np.where(STEPS <= 400, FALLING, FALLING[399] * np.exp((STEPS - 400) / 40.0))
    crossed = int(np.argmax((values > 1.5 * np.median(values[:16])) & (STEPS > 400))) + 1
    (step,) = found(values)
    assert step is not None
    assert crossed <= step <= crossed + 100


def test_never_fell_and_blew_up() -> None:
    """Ten times the learning rate: the loss grows from the first step, and is still a number."""
    assert len(found(2.0 * 1.05**STEPS)) == 1


@pytest.mark.parametrize(
    "values",
    [
        FALLING,
        np.where(STEPS == 500, 50.0, FALLING),
        np.where(STEPS % 50 == 0, 9.0, FALLING),
        20.0 + 0.3 * STEPS * NOISE,
        -FALLING,
        np.random.default_rng(1).standard_normal(800),
        np.where((STEPS > 400) & (STEPS < 450), 4.0, FALLING),
    ],
    ids=["falls", "one spike", "regular spikes", "reward grows", "negative", "either sign", "warm restart"],
)
def test_losses_that_rise_for_good_reasons(values: np.ndarray) -> None:
    """The accept twin."""
    assert found(values) == []
