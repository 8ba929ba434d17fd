"""Nearest neighbours among the approved rows, for labels that can be compared with those of similar rows.

Features are the numeric columns, standardised by the approved rows (each by itself, or all by one spread where they share
a unit, as pixels do) and clipped at five deviations, and the small categorical columns as 0 or 1. Exact search by blocks; both sides are sampled where there are too many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

K = 10
MAX_APPROVED, MAX_NEW = 8000, 4000
MAX_FEATURES = 1024
_MAX_CATEGORIES, _CLIP, _BLOCK = 20, 5.0, 512
Matrix: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """
    For each row asked about: its own label's code, the label most of its neighbours have, and how many share its own.

    Shapes: each (rows,).
    """

    own: Codes
    majority: Codes
    agreeing: Codes


def count_features(approved: pl.DataFrame, now: pl.DataFrame, columns: list[str]) -> int:
    """How many of *columns* can be compared between rows at all."""
    return sum(_is_numeric(approved[c], now[c]) or _categories(approved[c], now[c]) is not None for c in columns)


def features(
    approved: pl.DataFrame, now: pl.DataFrame, columns: list[str], *, common_scale: bool = False
) -> tuple[Matrix, Matrix]:
    """The feature matrices of both frames; zero columns where none of *columns* can be used."""
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    spreads: list[float] = []
    for column in columns[:MAX_FEATURES]:
        a, b = approved[column], now[column]
        if _is_numeric(a, b):
            x, y = (s.cast(pl.Float64).to_numpy().astype(np.float64) for s in (a, b))
            seen = x[np.isfinite(x)]
            spread = float(seen.std()) if len(seen) else 0.0
            if spread > 0:
                spreads.append(spread)
                left.append(x - seen.mean())
                right.append(y - seen.mean())
    whole = float(np.sqrt(np.mean(np.square(spreads)))) if spreads else 1.0
    scales = [whole if common_scale else spread for spread in spreads]
    for side in (left, right):
        for position, scale in enumerate(scales):
            # A missing value says nothing: it stands at the centre.
            scaled = np.nan_to_num(side[position] / scale, nan=0.0, posinf=_CLIP, neginf=-_CLIP)
            side[position] = np.clip(scaled, -_CLIP, _CLIP)
    for column in columns[:MAX_FEATURES]:
        a, b = approved[column], now[column]
        for value in _categories(a, b) or ():
            left.append((a == value).fill_null(value=False).to_numpy().astype(np.float64))
            right.append((b == value).fill_null(value=False).to_numpy().astype(np.float64))
    return _stack(left, approved.height), _stack(right, now.height)


def _is_numeric(a: pl.Series, b: pl.Series) -> bool:
    return bool(a.dtype.is_numeric() and b.dtype.is_numeric())


def _categories(a: pl.Series, b: pl.Series) -> list[object] | None:
    if a.dtype not in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) or b.dtype != a.dtype:
        return None
    known = a.drop_nulls().unique().sort().to_list()
    return known if 1 < len(known) <= _MAX_CATEGORIES else None


def vote(reference: Matrix, labels: Codes, asked: Matrix, own: Codes, *, skip_self: Codes | None = None) -> Votes:
    """
    Let the K nearest rows of *reference* vote on each row of *asked*.

    *skip_self* gives for each asked row its place in *reference*, which then does not vote on itself. Ties go to the
    row's own label, so that a tie is never held against it.
    """
    classes = int(max(labels.max(initial=0), own.max(initial=0))) + 1
    majority: Codes = np.empty(len(asked), np.int64)
    agreeing: Codes = np.empty(len(asked), np.int64)
    squares = np.einsum("ij,ij->i", reference, reference)
    for start in range(0, len(asked), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(asked)))
        distances = squares[None, :] - 2.0 * asked[block] @ reference.T
        rows = np.arange(distances.shape[0])
        if skip_self is not None:
            distances[rows, skip_self[block]] = np.inf
        count = min(K, len(reference) - 1)
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        votes = np.zeros((len(rows), classes))
        np.add.at(votes, (rows[:, None], labels[nearest]), 1)
        agreeing[block] = votes[rows, own[block]]
        votes[rows, own[block]] += 0.5
        majority[block] = votes.argmax(axis=1)
    return Votes(own=own, majority=majority, agreeing=agreeing)


def nearest_distances(pool: Matrix, asked: Matrix, *, skip_self: Codes) -> npt.NDArray[np.float64]:
    """The distance of each row of *asked* to the nearest other row of *pool*; *skip_self* is its own place there."""
    squares = np.einsum("ij,ij->i", pool, pool)
    found: npt.NDArray[np.float64] = np.empty(len(asked), np.float64)
    for start in range(0, len(asked), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(asked)))
        distances = squares[None, :] + squares[skip_self[block]][:, None] - 2.0 * asked[block] @ pool.T
        distances[np.arange(distances.shape[0]), skip_self[block]] = np.inf
        found[block] = np.sqrt(np.maximum(distances.min(axis=1), 0.0))
    return found


def _stack(columns: list[np.ndarray], rows: int) -> Matrix:
    if not columns:
        return np.zeros((rows, 0), np.float32)
    return np.column_stack(columns).astype(np.float32)
