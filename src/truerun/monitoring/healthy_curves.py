"""What healthy curves of one program have in common, and how much a healthy curve strays: a local-level model of their residuals.

A curve is the mean of the healthy curves plus a level of its own that wanders slowly, plus noise (Harvey 1989, local level
model). Noise and wandering are estimated from each healthy curve against the mean of the others, in blocks, with a scale
for each phase of training. What the model cannot see: a fault that all the healthy runs shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truerun.monitoring.block_means import Curve, distinct
from truerun.monitoring.observation import Numbers

CLIP = 4.0
TILT_CLIP = 3.0
TILTS = np.linspace(0.0, 3.0, 31)
PRIOR_COUNT = 100
RATIOS = (0.0, *(float(10.0**power) for power in np.arange(-4.0, 2.1, 0.25)))
WINDOW = 8
FEWEST = 12
ALONE_WANDERS = 0.3
LIKELIHOOD_DROP = 2.0
MOST_CORRELATED = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthyModel:
    """
    The healthy curves as one: per block the mean `trend` and the noise variance `noise` of a curve around it.

    A curve's own level begins with variance `start` and gains `wander` (a share of the noise variance) each block.
    `up` and `down` bound log E exp(tilt * score) for each of TILTS, where the score is a healthy curve's standardised
    innovation, clipped at TILT_CLIP. `runs` counts distinct curves.
    """

    size: int
    logarithmic: bool
    runs: int
    trend: Numbers
    noise: Numbers
    wander: float
    start: float
    up: Numbers
    down: Numbers
    curves: Numbers


def fit(curves: Sequence[Curve]) -> HealthyModel | None:
    """The model of *curves*, None where they are too short or do not belong together."""
    if not curves or len({curve.logarithmic for curve in curves}) > 1:
        return None
    size = max(curve.size for curve in curves)
    while True:
        same = distinct(curve.coarsened(size) for curve in curves)
        longest = max(len(curve.means) for curve in same)
        kept = [curve for curve in same if len(curve.means) >= 0.9 * longest]
        blocks = min(len(curve.means) for curve in kept)
        if blocks < FEWEST:
            return None
        stacked = np.array([curve.means[:blocks] for curve in kept])
        model, correlation = _fit(stacked, size, logarithmic=curves[0].logarithmic)
        # Blocks without a value (on a GPU few losses are read) and blocks that go together are too small.
        if (model is not None and (correlation <= MOST_CORRELATED or blocks // 2 < 2 * FEWEST)) or blocks // 2 < FEWEST:
            return model
        size *= 2


def innovations(residual: Numbers, noise: Numbers, wander: float, start: float) -> Numbers:
    """
    Standardised one-step-ahead errors of *residual* under the local-level model; NaN where it is missing.

    The filter (Kalman 1960) takes an error of more than CLIP standard deviations for one of CLIP.
    """
    level, variance = 0.0, start
    found = np.full(len(residual), np.nan)
    for j, value in enumerate(residual):
        total = variance + noise[j]
        if np.isfinite(value):
            found[j] = error = (value - level) / np.sqrt(total)
            gain = variance / total
            level += gain * np.sqrt(total) * min(max(error, -CLIP), CLIP)
            variance *= 1 - gain
        variance += wander * noise[j]
    return found


def _fit(stacked: Numbers, size: int, *, logarithmic: bool) -> tuple[HealthyModel | None, float]:
    runs = len(stacked)
    if not np.isfinite(stacked).any(axis=0).all() or (runs == 1 and not np.isfinite(stacked).all()):
        return None, 0.0
    trend = np.nanmean(stacked, axis=0)
    if runs == 1:
        return _alone(stacked[0], size, logarithmic=logarithmic), 0.0
    residuals = (stacked - trend) * runs / (runs - 1)  # each against the mean of the others
    noise = _noise(residuals, trend)
    start = float(np.nanmean(residuals[:, : max(2, FEWEST // 3)] ** 2)) + noise[0]
    wander = _wander(residuals, noise, start)
    errors = np.array([innovations(row, noise, wander, start) for row in residuals])
    # The first error of a curve speaks of its level, not of its noise.
    errors = errors[:, 1:]
    spread = max(float(np.nanmean(np.clip(errors, -CLIP, CLIP) ** 2)), 1e-6)
    # A new curve is compared with the mean of all, these were with the mean of the others.
    fair = spread * (runs**2 - 1) / runs**2
    noise, start = np.maximum(noise * fair, _floor(trend)), start * fair
    errors /= np.sqrt(spread)
    steady = errors[:, :-1] * errors[:, 1:]
    correlation = float(np.nanmean(np.clip(steady, -CLIP, CLIP)))
    return (
        HealthyModel(
            size=size,
            logarithmic=logarithmic,
            runs=runs,
            trend=trend,
            noise=noise,
            wander=wander,
            start=start,
            up=_bound(errors, correlation, runs),
            down=_bound(-errors, correlation, runs),
            curves=stacked,
        ),
        correlation,
    )


def _bound(errors: Numbers, correlation: float, runs: int) -> Numbers:
    """
    For each tilt log of the mean of exp(tilt * score) over healthy errors, plus one standard error of that mean.

    As many as PRIOR_COUNT errors of a heavy-tailed kind (Student's t, four degrees) are counted in, because what a few
    hundred errors have not shown may still come.
    """
    scores = np.clip(errors[np.isfinite(errors)], -TILT_CLIP, TILT_CLIP)
    # Curves against their own mean count as one less; neighbours that go together say less than as many that do not.
    count = len(scores) * (runs - 1) / runs / (1 + 2 * max(0.0, correlation))
    prior = np.exp(np.outer(TILTS, np.clip(_heavy(), -TILT_CLIP, TILT_CLIP)))
    if not len(scores):
        return np.asarray(np.log(prior.mean(axis=1)))
    powers = np.exp(np.outer(TILTS, scores))
    share = PRIOR_COUNT / (PRIOR_COUNT + count)
    mean = share * prior.mean(axis=1) + (1 - share) * powers.mean(axis=1)
    return np.asarray(np.log(np.maximum(1.0, mean + (1 - share) * powers.std(axis=1) / np.sqrt(max(1.0, count)))))


def _heavy() -> Numbers:
    """Evenly spread quantiles of Student's t with four degrees of freedom (Shaw 2006 gives them in closed form), unit scale."""
    p = (np.arange(200) + 0.5) / 200
    a = 4 * p * (1 - p)
    q = np.cos(np.arccos(np.sqrt(a)) / 3) / np.sqrt(a)
    return np.asarray(np.sign(p - 0.5) * 2 * np.sqrt(q - 1) / 1.12)


def _floor(trend: Numbers) -> float:
    """A variance below which nothing is told apart: rounding of values that are stored with six digits."""
    return float((1e-5 * max(1.0, np.max(np.abs(trend)))) ** 2)


def _noise(residuals: Numbers, trend: Numbers) -> Numbers:
    """Variance of the noise at each block, from differences of neighbours in a window of blocks over all curves."""
    change = np.diff(residuals, axis=1)
    known = change[np.isfinite(change)]
    if not len(known):
        return np.full(residuals.shape[1], _floor(trend))
    usual = float(np.median(known**2)) / 0.455 + _floor(trend)
    squares = np.minimum(change**2, CLIP**2 * usual * 4)
    blocks = residuals.shape[1]
    local = np.array([np.nanmean(squares[:, max(0, j - WINDOW) : j + WINDOW]) for j in range(blocks)])
    # A window holds few differences: an eighth of all of them keeps it honest.
    return np.maximum(0.5 * (0.875 * local + 0.125 * float(np.nanmean(squares))), _floor(trend))


def _wander(residuals: Numbers, noise: Numbers, start: float) -> float:
    """The largest wandering that is nearly as likely as the likeliest (profile likelihood): rather slow than wrong."""
    best: list[float] = []
    for ratio in RATIOS:
        # The differences hold wandering too: what is noise is less by that much.
        part = noise * 2 / (2 + ratio)
        best.append(sum(_likelihood(row, part, ratio, start) for row in residuals) * (len(residuals) - 1) / len(residuals))
    top = max(best)
    return max(ratio for ratio, likelihood in zip(RATIOS, best, strict=True) if likelihood >= top - LIKELIHOOD_DROP)


def _likelihood(residual: Numbers, noise: Numbers, wander: float, start: float) -> float:
    level, variance, total_likelihood = 0.0, start, 0.0
    for j, value in enumerate(residual):
        total = variance + noise[j]
        if np.isfinite(value):
            error = min(max((value - level) / np.sqrt(total), -CLIP), CLIP)
            total_likelihood -= 0.5 * (error**2 + np.log(total))
            gain = variance / total
            level += gain * np.sqrt(total) * error
            variance *= 1 - gain
        variance += wander * noise[j]
    return float(total_likelihood)


def _alone(curve: Numbers, size: int, *, logarithmic: bool) -> HealthyModel:
    """One healthy curve says nothing of how runs differ: its noise is seen, its wandering is taken to be ALONE_WANDERS a run."""
    bends = np.diff(curve, 2)[None, :]
    padded = np.concatenate([bends[:, :1], bends, bends[:, -1:]], axis=1) / np.sqrt(6.0)
    usual = float(np.median(padded**2)) / 0.455 + _floor(curve)
    squares = np.minimum(padded**2, CLIP**2 * usual)[0]
    local = np.array([np.mean(squares[max(0, j - WINDOW) : j + WINDOW]) for j in range(len(curve))])
    noise = 2 * np.maximum(0.875 * local + 0.125 * float(np.mean(squares)), _floor(curve))
    scale = ALONE_WANDERS * (1.0 if logarithmic else float(np.ptp(curve)) or 1.0)
    wander = scale**2 / (len(curve) * float(np.median(noise)))
    return HealthyModel(
        size=size,
        logarithmic=logarithmic,
        runs=1,
        trend=curve,
        noise=noise,
        wander=wander,
        start=scale**2 + noise[0],
        up=_bound(np.array([]), 0.0, 1),
        down=_bound(np.array([]), 0.0, 1),
        curves=curve[None, :],
    )
