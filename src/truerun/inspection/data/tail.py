"""Exact tail probabilities, so that an alarm has a stated false-alarm rate and a few rows are never judged like many.

All of them ask: if the new rows were drawn as the approved ones were, how likely is a count this high?
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
_OWN_WAY = 0.1


def predictive_tail(count: int, trials: int, seen: int, total: int) -> float:
    """
    P(at least *count* of *trials* new rows have a property) when *seen* of *total* approved rows have it.

    Beta-binomial with Jeffreys' prior, so that the uncertainty of a small reference counts in favour of the new rows.
    """
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    a, b = seen + 0.5, total - seen + 0.5
    # One term by logarithms, the others by their ratio to it.
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + math.lgamma(count + a)
        + math.lgamma(trials - count + b)
        - math.lgamma(trials + a + b)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
    )
    tail = 0.0
    for k in range(count, trials + 1):
        tail += term
        if term < tail * 1e-12 and k > (a / (a + b)) * trials:
            break
        term *= (trials - k) / (k + 1) * (a + k) / (b + trials - k - 1) if k < trials else 0.0
    return min(1.0, tail)


def grouped_tail(count: int, trials: int, *, seen: int, total: int, own_seen: int, own_total: int) -> float:
    """
    As predictive_tail, for a contributor with approved rows of their own (*own_seen* of *own_total*, part of *seen* of *total*).

    Where their own rows demonstrably have the property more often than the others', they are measured by themselves.
    """
    chance = predictive_tail(count, trials, seen, total)
    if own_total and predictive_tail(own_seen, own_total, seen - own_seen, total - own_total) < _OWN_WAY:
        return max(chance, predictive_tail(count, trials, own_seen, own_total))
    return chance


def exceedance_tail(count: int, trials: int, total: int) -> float:
    """
    P(at least *count* of *trials* new rows lie above the highest of *total* approved ones), whatever the distribution.

    All that is assumed is that new and approved rows are exchangeable: then the *count* highest of all are any *count* rows.
    """
    return math.prod((trials - i) / (total + trials - i) for i in range(count))


def kolmogorov_tail(distance: float, trials: int, total: int) -> float:
    """P(Kolmogorov-Smirnov distance of two samples of one distribution >= *distance*): asymptotic, with Stephens' correction."""
    if trials == 0 or total == 0:
        return 1.0
    root = math.sqrt(trials * total / (trials + total))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:
        return 1.0
    series: float = sum((-1.0) ** (j - 1) * math.exp(-2 * (j * scaled) ** 2) for j in range(1, 101))
    return max(0.0, min(1.0, 2 * series))


def holm(probabilities: Mapping[K, float], tests: int | None = None) -> dict[K, float]:
    """Holm's step-down adjustment over *tests* tests (default: as many as there are probabilities); values at most 1."""
    count = max(tests or 0, len(probabilities))
    adjusted: dict[K, float] = {}
    running = 0.0
    for rank, (key, probability) in enumerate(sorted(probabilities.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, probability * (count - rank)))
        adjusted[key] = running
    return adjusted


def wilson(count: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default."""
    if trials == 0:
        return 0.0, 1.0
    share = count / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
