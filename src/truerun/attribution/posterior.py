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
SPREAD = 0.3  # a degraded level varies between reruns by this share of itself: broken training is erratic
SLAB_RATIO = 1.15
LEVEL_SHIFTS = ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6))
PRUNE = -30.0  # explanations this far (natural log) below the best do not come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """
    The sizes that matter, in the metric's unit: `tolerance` (declared; an effect below it is not harm), `drop` (how much
    worse the run is than its reference) and `noise`, pairs of (standard deviation between reruns, prior share). `drift` is the
    standard deviation of what one harmless change may do to the metric; many of them add up. `level_error` is the standard
    error of the good level, in standard deviations between reruns.
    """

    tolerance: float
    drop: float
    noise: tuple[tuple[float, float], ...]
    drift: float = 0.0
    level_error: float = 0.0


def noise_around(tolerance: float, measured: float | None = None) -> tuple[tuple[float, float], ...]:
    """Sizes of noise to consider: a fifth of the tolerance and more, never below what repeated reruns *measured*."""
    floor = max(measured or 0.0, tolerance / 5)
    return ((floor, 0.4), (floor * 2, 0.35), (floor * 4, 0.2), (floor * 8, 0.05))


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
    terms = [term for shape in Shape for term in _terms(shape, space, inside)]
    # The good level is a mean of few reruns: its error shifts every drop alike (three-point Gauss-Hermite quadrature).
    parts = [
        np.log(share * weight)
        + _log_likelihood(terms, len(space), _Density.of(observed - shift * scale.level_error * sd, inside, sd, scale))
        for sd, share in scale.noise
        for shift, weight in LEVEL_SHIFTS
    ]
    log_posterior = space.log_prior + _log_sum(np.stack(parts, axis=1))
    log_posterior -= _log_sum(log_posterior[None, :])[0]
    kept = log_posterior > log_posterior.max() + PRUNE
    return Beliefs(space=space.keep(kept), log_posterior=log_posterior[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """
    Which reruns hold which of an explanation's members, for the explanations `rows`.

    Many explanations share a mask of reruns; `masks` (u, K) are the distinct ones and `place` (h,) says which is whose.
    `within` is, for explanations in which the second member worsens the first, the mask with the first one alone.
    """

    kind: str  # "good", "part" or "whole": no member, some, or all of them are in these reruns
    rows: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]
    place: npt.NDArray[np.int64]
    within: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Density:
    """
    Log density of each rerun: `good` (K,) without harm, `bad` (K, G) at each level of harm; the priors (G,) of the level are
    for a part of the harmful changes and for all of them.
    """

    good: Floats
    bad: Floats
    part: Floats
    whole: Floats

    @classmethod
    def of(cls, drops: Floats, inside: npt.NDArray[np.bool_], sd: float, scale: Scale) -> _Density:
        levels, part, whole = _levels(scale)
        noise = np.hypot(sd, scale.drift * np.sqrt(inside.sum(axis=1)))
        wide = np.log(ODD) - np.log(4.0 * max(scale.drop, scale.tolerance) + 6.0 * sd)
        good = np.logaddexp(_within(drops, noise, scale.tolerance) + np.log1p(-ODD), wide)
        spread = np.hypot(noise[:, None], SPREAD * levels[None, :])
        bad = np.logaddexp(_normal(drops[:, None], levels[None, :], spread) + np.log1p(-ODD), wide)
        return cls(good=good, bad=bad, part=part, whole=whole)


def _terms(shape: Shape, space: Space, inside: npt.NDArray[np.bool_]) -> list[_Term]:
    """The terms of the likelihood of all explanations of one *shape*."""
    rows = np.flatnonzero(space.shape == shape)
    if not len(rows):
        return []
    size = {Shape.NONE: 0, Shape.SINGLE: 1, Shape.TRIPLE: 3}.get(shape, 2)
    present = [inside[:, space.members[rows, column]].T for column in range(size)]
    if not present:
        return [_term("good", rows, np.ones((len(rows), len(inside)), dtype=bool))]
    every = np.logical_and.reduce(present)
    if shape is Shape.TOGETHER:
        return [_term("good", rows, ~every), _term("whole", rows, every)]
    if shape is Shape.WORSENS:
        return [_term("good", rows, ~present[0]), _term("whole", rows, every, within=present[0] & ~present[1])]
    terms = [_term("good", rows, ~np.logical_or.reduce(present)), _term("whole", rows, every)]
    for bits in range(1, 2**size - 1):
        masks = [mask if bits >> member & 1 else ~mask for member, mask in enumerate(present)]
        terms.append(_term("part", rows, np.logical_and.reduce(masks)))
    return terms


def _term(
    kind: str, rows: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], within: npt.NDArray[np.bool_] | None = None
) -> _Term:
    whole = mask if within is None else np.hstack([mask, within])
    # Rows are told apart by a random projection: equal rows get equal sums, different ones practically never.
    codes = whole @ np.random.default_rng(0).random(whole.shape[1])
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    return _Term(kind=kind, rows=rows, masks=mask[first], place=place, within=None if within is None else within[first])


def _log_likelihood(terms: Sequence[_Term], count: int, density: _Density) -> Floats:
    total: Floats = np.zeros(count)
    for term in terms:
        if term.kind == "good":
            values = term.masks @ density.good
        else:
            levels = term.masks @ density.bad + (density.whole if term.kind == "whole" else density.part)[None, :]
            if term.within is not None:
                # Worse together than the first alone: only higher levels count.
                alone = np.logaddexp.accumulate(term.within @ density.bad + density.part[None, :], axis=1)
                levels = levels[:, 1:] + alone[:, :-1]
            values = _log_sum(levels)
        total[term.rows] += values[term.place]
    return total


def _log_sum(values: Floats) -> Floats:
    """Logarithm of the sum of exponentials along the last axis."""
    top = values.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=1)) + top[:, 0])


def _levels(scale: Scale) -> tuple[Floats, Floats, Floats]:
    """Grid of levels, the prior for part of the harmful changes (flat) and for all of them (near the total drop)."""
    top = max(2.0 * scale.drop, 4.0 * scale.tolerance)
    count = int(np.ceil(np.log(top / scale.tolerance) / np.log(SLAB_RATIO))) + 1
    levels = np.geomspace(scale.tolerance, top, count)
    flat = np.gradient(levels)
    # Half flat, half scale-free: small effects are as usual as large ones.
    flat = 0.5 * flat / flat.sum() + 0.5 / count
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
