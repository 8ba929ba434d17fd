"""Nearest neighbours among the approved rows, for labels that can be compared with those of similar rows.

Features are the numeric columns, standardised by the approved rows and clipped at five deviations, and the small
categorical columns as 0 or 1. Exact search by blocks; both sides are sampled where there are too many rows.
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


def features(approved: pl.DataFrame, now: pl.DataFrame, columns: list[str]) -> tuple[Matrix, Matrix]:
    """The feature matrices of both frames; zero columns where none of *columns* can be used."""
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    for column in columns:
        a, b = approved[column], now[column]
        if a.dtype.is_numeric() and b.dtype.is_numeric():
            x, y = (s.cast(pl.Float64).to_numpy().astype(np.float64) for s in (a, b))
            seen = x[np.isfinite(x)]
            spread = float(seen.std()) if len(seen) else 0.0
            if spread > 0:
                centre = float(seen.mean())
                for side, values in ((left, x), (right, y)):
                    # A missing value says nothing: it stands at the centre.
                    scaled = np.nan_to_num((values - centre) / spread, nan=0.0, posinf=_CLIP, neginf=-_CLIP)
                    side.append(np.clip(scaled, -_CLIP, _CLIP))
        elif a.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) and b.dtype == a.dtype:
            known = a.drop_nulls().unique().sort().to_list()
            if 1 < len(known) <= _MAX_CATEGORIES:
                for value in known:
                    left.append((a == value).fill_null(value=False).to_numpy().astype(np.float64))
                    right.append((b == value).fill_null(value=False).to_numpy().astype(np.float64))
        if len(left) >= MAX_FEATURES:
            break
    return _stack(left, approved.height), _stack(right, now.height)


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
    found = np.empty(len(asked), np.float64)
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
