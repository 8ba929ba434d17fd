"""What reruns say about the explanations: a Bayesian, metric-valued reading of them.

A rerun without a harmful change stays at the good level, within noise; one with a harmful change falls by an effect that is
not known beforehand, so it is integrated out, once for every combination of harmful changes, between the tolerance and
twice the total drop. Noise is integrated out over a few sizes around the declared tolerance. A small share of reruns may be
anything at all, so that one odd rerun convicts nobody.
After: Gaussian noisy bisection (git-bayesect reads pass or fail only); the slab is the usual spike-and-slab prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from truerun.attribution.hypotheses import Shape, Space

Floats: TypeAlias = npt.NDArray[np.float64]
ODD = 0.01  # share of reruns that may be anything
SPREAD = 0.2  # a degraded level varies between reruns by this share of itself: broken training is erratic
SLAB_RATIO = 1.15
PRUNE = -40.0  # explanations this far (natural log) below the best do not come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """
    The sizes that matter, in the metric's unit: `tolerance` (declared; an effect below it is not harm), `drop` (how much
    worse the run is than its reference) and `noise`, pairs of (standard deviation between reruns, prior share). `drift` is the
    standard deviation of what one harmless change may do to the metric; many of them add up.
    """

    tolerance: float
    drop: float
    noise: tuple[tuple[float, float], ...]
    drift: float = 0.0


def noise_around(tolerance: float, measured: float | None = None) -> tuple[tuple[float, float], ...]:
    """Sizes of noise to consider: a third of the tolerance up to twice it, never below what repeated reruns *measured*."""
    floor = max(measured or 0.0, tolerance / 3)
    return ((floor, 0.45), (floor * 1.7, 0.35), (floor * 3.0, 0.15), (floor * 6.0, 0.05))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """Explanations and how probable each is now (`log_posterior`, normalised)."""

    space: Space
    log_posterior: Floats

    @property
    def marginals(self) -> Floats:
        """(count,): for each candidate the probability that it is harmful, alone or with others."""
        return np.asarray(np.exp(self.log_posterior) @ self.space.involves())

    @property
    def best(self) -> int:
        """The row of the most probable explanation."""
        return int(np.argmax(self.log_posterior))

    def members(self, row: int) -> tuple[int, ...]:
        """The candidates in explanation *row*."""
        return tuple(int(member) for member in self.space.members[row] if member >= 0)


def believe(space: Space, subsets: Sequence[frozenset[int]], drops: Sequence[float], scale: Scale) -> Beliefs:
    """
    Beliefs after reruns of *subsets* that were worse than the good level by *drops* (positive is worse).

    Explanations that have become hopeless are left out of the result's space.
    """
    inside: npt.NDArray[np.bool_] = np.zeros((len(subsets), space.count), dtype=bool)
    for row, subset in enumerate(subsets):
        inside[row, list(subset)] = True
    observed = np.asarray(drops, dtype=float)
    per_noise = [np.log(share) + _log_likelihood(space, inside, observed, sd, scale) for sd, share in scale.noise]
    log_posterior = space.log_prior + np.logaddexp.reduce(np.stack(per_noise), axis=0)
    log_posterior -= np.logaddexp.reduce(log_posterior)
    kept = log_posterior > log_posterior.max() + PRUNE
    return Beliefs(space=space.keep(kept), log_posterior=log_posterior[kept])


def _log_likelihood(space: Space, inside: npt.NDArray[np.bool_], drops: Floats, sd: float, scale: Scale) -> Floats:
    levels, partial_prior, full_prior = _levels(scale)
    wide = np.log(ODD) - np.log(4.0 * max(scale.drop, scale.tolerance) + 6.0 * sd)
    noise = np.hypot(sd, scale.drift * np.sqrt(inside.sum(axis=1)))
    good = np.logaddexp(_within(drops, noise, scale.tolerance) + np.log1p(-ODD), wide)
    spread = np.hypot(noise[:, None], SPREAD * levels[None, :])
    bad = np.logaddexp(_normal(drops[:, None], levels[None, :], spread) + np.log1p(-ODD), wide)
    level = _Level(bad=bad, partial_prior=partial_prior, full_prior=full_prior)
    total = np.zeros(len(space))
    for shape in Shape:
        rows = np.flatnonzero(space.shape == shape)
        if len(rows):
            patterns = [inside[:, space.members[rows, column]].T for column in range(_size(shape))]
            total[rows] = _explain(shape, patterns, good, level, len(rows))
    return total


def _explain(shape: Shape, present: list[npt.NDArray[np.bool_]], good: Floats, level: _Level, count: int) -> Floats:
    """Log-likelihood of every explanation of one *shape*; `present[m]` (h, K): is member m in rerun k?"""
    if shape is Shape.NONE:
        return np.full(count, good.sum())
    full = np.logical_and.reduce(present)
    if shape is Shape.TOGETHER:
        return np.asarray(~full @ good + level.of(full, whole=True))
    if shape is Shape.WORSENS:
        alone = present[0] & ~present[1]
        return np.asarray(~present[0] @ good + level.of(full, whole=True) + level.of(alone))
    total = ~np.logical_or.reduce(present) @ good + level.of(full, whole=True)
    for bits in range(1, 2 ** len(present) - 1):
        masks = [mask if bits >> member & 1 else ~mask for member, mask in enumerate(present)]
        total += level.of(np.logical_and.reduce(masks))
    return np.asarray(total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """
    Reruns with the same harmful changes share one unknown level. `bad` (K, G) is the log density of each rerun at each level;
    the priors (G,) are for a part of the harmful changes and for all of them.
    """

    bad: Floats
    partial_prior: Floats
    full_prior: Floats

    def of(self, mask: npt.NDArray[np.bool_], *, whole: bool = False) -> Floats:
        """Log-likelihood (h,) of the reruns in *mask* (h, K), their level integrated out."""
        prior = self.full_prior if whole else self.partial_prior
        return np.asarray(np.logaddexp.reduce(mask @ self.bad + prior[None, :], axis=1))


def _size(shape: Shape) -> int:
    return {Shape.NONE: 0, Shape.SINGLE: 1, Shape.TRIPLE: 3}.get(shape, 2)


def _levels(scale: Scale) -> tuple[Floats, Floats, Floats]:
    """Grid of levels, the prior for part of the harmful changes (flat) and for all of them (near the total drop)."""
    top = max(2.0 * scale.drop, 4.0 * scale.tolerance)
    count = int(np.ceil(np.log(top / scale.tolerance) / np.log(SLAB_RATIO))) + 1
    levels = np.geomspace(scale.tolerance, top, count)
    flat = np.gradient(levels)
    flat /= flat.sum()
    near = np.exp(_normal(levels, scale.drop, 0.25 * scale.drop + 0.5 * scale.tolerance)) * np.gradient(levels)
    near /= near.sum()
    return levels, np.log(flat), np.log(0.7 * near + 0.3 * flat)


def _within(drops: Floats, sd: Floats, tolerance: float) -> Floats:
    """Log density of a good rerun: within the tolerance runs count as equal, beyond it only noise explains; better is good."""
    worse = np.maximum(drops, 0.0)
    mass = _gaussian_cdf((worse + tolerance) / sd) - _gaussian_cdf((worse - tolerance) / sd)
    return np.asarray(np.log(np.maximum(mass, 1e-300)) - np.log(2 * tolerance))


def _gaussian_cdf(x: Floats) -> Floats:
    return np.asarray([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in x])


def _normal(x: Floats, mean: Floats | float, sd: Floats | float) -> Floats:
    return np.asarray(-0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi))
