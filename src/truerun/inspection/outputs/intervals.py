"""Intervals for a change of a share, and how surely such a change lies beyond a tolerance.

Newcombe's score intervals: for two samples of different examples ("Interval estimation for the difference between
independent proportions", 1998, method 10) and for the same examples twice ("Improved confidence intervals for the
difference between binomial proportions based on paired data", 1998, method 10). A difference of two such changes is
recovered from their intervals (MOVER: Zou and Donner, 2008). Benjamini and Hochberg (1995) over many slices.
They take the examples as drawn independently; they know nothing of examples that come in clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Z95 = 1.959963984540054
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """
    A share before and now. `both` and `neither` are known where the same examples were seen twice, else None.

    `before` of `total_before` had it, `now` of `total_now` have it; `both` counts examples that had it and have it.
    """

    before: int
    total_before: int
    now: int
    total_now: int
    both: int | None = None

    @property
    def fall(self) -> float:
        """How much the share fell; negative where it rose."""
        return self.before / self.total_before - self.now / self.total_now

    @property
    def reversed(self) -> Shares:
        """The same change of what is left to one, so that a rise is a fall."""
        both = None if self.both is None else self.total_now - self.before - self.now + self.both
        return Shares(
            before=self.total_before - self.before,
            total_before=self.total_before,
            now=self.total_now - self.now,
            total_now=self.total_now,
            both=both,
        )

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """The score interval of `fall`; *z* is the normal quantile of its level, 95 % by default."""
        p, q = self.before / self.total_before, self.now / self.total_now
        (p_low, p_high), (q_low, q_high) = _wilson(self.before, self.total_before, z), _wilson(self.now, self.total_now, z)
        correlation = self._correlation()
        down = _hypotenuse(p - p_low, q_high - q, correlation)
        up = _hypotenuse(p_high - p, q - q_low, correlation)
        return max(-1.0, p - q - down), min(1.0, p - q + up)

    def _correlation(self) -> float:
        if self.both is None:
            return 0.0
        n, had, have = self.total_now, self.before, self.now
        a, b, c = self.both, had - self.both, have - self.both
        d = n - a - b - c
        scale = had * (n - had) * have * (n - have)
        if scale == 0:
            return 0.0
        product = a * d - b * c
        corrected = max(product - n / 2, 0.0) if product > 0 else float(product)
        return corrected / math.sqrt(scale)


def contrast(one: Shares, other: Shares, z: float = Z95) -> tuple[float, float, float]:
    """How much more *one* fell than *other* (different examples), with its interval: value, low, high."""
    low, high = one.interval(z)
    other_low, other_high = other.interval(z)
    value = one.fall - other.fall
    return (
        value,
        value - math.hypot(one.fall - low, other_high - other.fall),
        value + math.hypot(high - one.fall, other.fall - other_low),
    )


def chance_within(low_at: Callable[[float], float], tolerance: float) -> float:
    """
    The one-sided probability of evidence this strong if the truth lay within *tolerance*.

    *low_at* gives an interval's lower end for a normal quantile; the widest interval that still clears *tolerance* tells.
    """
    if low_at(0.0) <= tolerance:
        return 1.0
    inside, outside = 0.0, 40.0
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if low_at(middle) > tolerance else (inside, middle)
    return 0.5 * math.erfc(inside / math.sqrt(2))


def false_discovery(chances: Mapping[K, float]) -> dict[K, float]:
    """Benjamini-Hochberg adjusted probabilities: calling all at or below q gives a false share of at most q on average."""
    ordered = sorted(chances, key=lambda key: chances[key])
    adjusted: dict[K, float] = {}
    running = 1.0
    for rank in range(len(ordered), 0, -1):
        running = min(running, chances[ordered[rank - 1]] * len(ordered) / rank)
        adjusted[ordered[rank - 1]] = running
    return adjusted


def _wilson(count: int, total: int, z: float) -> tuple[float, float]:
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (centre - spread) / scale, (centre + spread) / scale


def _hypotenuse(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
