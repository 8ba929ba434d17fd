"""A long curve as a short one: means over blocks of equally many steps, so that neighbours are nearly independent.

With `most` the blocks double in size whenever there would be more, so that a curve of any length keeps a bounded form.
Values that are not finite are left out; a block without any is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from truerun.monitoring.observation import Numbers

MOST = 128
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Block means of one series of one run, each over `size` places; of the logarithm where `logarithmic`."""

    size: int
    logarithmic: bool
    means: Numbers

    def coarsened(self, size: int) -> Curve:
        """The same curve in blocks of *size*, a multiple of its own."""
        merge = size // self.size
        whole = len(self.means) // merge * merge
        rows = self.means[:whole].reshape(-1, merge)
        counts = np.isfinite(rows).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.nansum(rows, axis=1) / counts
        return Curve(size=size, logarithmic=self.logarithmic, means=means)


class BlockMeans:
    """Takes values at their places (from 1), in any order that only moves on; holds sums, not values."""

    def __init__(self, size: int = 1, most: int | None = None, *, logarithmic: bool = False) -> None:
        self.size = size
        self.most = most
        self.logarithmic = logarithmic
        self._sums: list[float] = []
        self._counts: list[int] = []

    def __len__(self) -> int:
        """How many blocks have been begun."""
        return len(self._sums)

    def add(self, place: int, value: float) -> None:
        """*value* at *place*."""
        if not math.isfinite(value):
            return
        while self.most is not None and (place - 1) // self.size >= self.most:
            self._merge()
        block = (place - 1) // self.size
        missing = block + 1 - len(self._sums)
        if missing > 0:
            self._sums += [0.0] * missing
            self._counts += [0] * missing
        self._sums[block] += math.log(max(value, SMALLEST)) if self.logarithmic else value
        self._counts[block] += 1

    def mean(self, block: int) -> float:
        """The mean of *block* (from 0) so far, NaN where it holds nothing."""
        if block >= len(self._sums) or not self._counts[block]:
            return math.nan
        return self._sums[block] / self._counts[block]

    def curve(self, places: int) -> Curve:
        """All blocks that are full when *places* have been passed."""
        full = min(len(self._sums), places // self.size)
        means = np.array([self.mean(block) for block in range(full)], float)
        return Curve(size=self.size, logarithmic=self.logarithmic, means=means)

    def _merge(self) -> None:
        self.size *= 2
        self._sums = _paired(self._sums)
        self._counts = _paired(self._counts)


def _paired(values: list[Any]) -> list[Any]:
    return [sum(values[i : i + 2]) for i in range(0, len(values), 2)]


def distinct(curves: Iterable[Curve]) -> tuple[Curve, ...]:
    """*curves* without repetitions: runs with the same seed on the same machine say one thing, not many."""
    found: list[Curve] = []
    for curve in curves:
        if not any(curve.size == other.size and np.array_equal(curve.means, other.means, equal_nan=True) for other in found):
            found.append(curve)
    return tuple(found)
