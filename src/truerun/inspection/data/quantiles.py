"""Numbers of a column, sorted, and how far two such samples lie apart."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers: TypeAlias = npt.NDArray[np.float64]


def finite(series: pl.Series) -> Numbers:
    """The finite numbers of *series*, sorted."""
    numbers = series.drop_nulls().cast(pl.Float64).to_numpy()
    return np.sort(numbers[np.isfinite(numbers)])


def distance(a: Numbers, b: Numbers) -> float:
    """The Kolmogorov-Smirnov distance of two sorted samples: the largest gap between their distribution functions."""
    if not len(a) or not len(b):
        return 0.0
    points = np.concatenate([a, b])
    below_a = np.searchsorted(a, points, side="right") / len(a)
    below_b = np.searchsorted(b, points, side="right") / len(b)
    return float(np.max(np.abs(below_a - below_b)))
