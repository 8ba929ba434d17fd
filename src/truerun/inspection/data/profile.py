"""The profile of a data set: per column, the statistics that the data rules compare rows against.

Written when data is locked and kept by digest beside the lock, so that rules need no access to the old rows. Numbers are
rounded to twelve significant digits, so that the order of a parallel sum cannot change a profile's digest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

SCHEMA = 1
MAX_CATEGORIES = 256
QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """
    One column: its type, how many values are null, and what the others are like.

    Numeric columns have `mean`, `std` and the values at QUANTILES; NaN and infinities are counted in `not_finite` and
    left out. Columns of text, booleans and whole numbers with at most MAX_CATEGORIES values have `categories` (value as
    text -> count). `whole` says that every number is whole.
    """

    kind: str
    count: int
    nulls: int
    not_finite: int = 0
    mean: float | None = None
    std: float | None = None
    quantiles: tuple[float, ...] = ()
    whole: bool = False
    categories: Mapping[str, int] | None = None

    @property
    def share_null(self) -> float:
        """Share of values that are null, 0 for an empty column."""
        return self.nulls / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A data set: its number of rows and its columns in order."""

    rows: int
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    schema: int = SCHEMA


def profile_of(frame: pl.DataFrame) -> Profile:
    """The profile of *frame*: one pass a column, exact statistics."""
    return Profile(rows=frame.height, columns={name: _column(frame[name]) for name in frame.columns})


def _column(series: pl.Series) -> ColumnProfile:
    kind, count, nulls = str(series.dtype), len(series), series.null_count()
    if series.dtype.is_numeric():
        return _numeric(series, kind, count, nulls)
    if series.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        return ColumnProfile(kind=kind, count=count, nulls=nulls, categories=categories_of(series))
    return ColumnProfile(kind=kind, count=count, nulls=nulls)


def _numeric(series: pl.Series, kind: str, count: int, nulls: int) -> ColumnProfile:
    present = series.drop_nulls()
    numbers = present.cast(pl.Float64)
    finite = numbers.filter(numbers.is_finite())
    whole = bool(len(finite)) and bool((finite == finite.floor()).all())
    categories = categories_of(present.cast(pl.Int64)) if whole and series.dtype.is_integer() else None
    if not len(finite):
        return ColumnProfile(kind=kind, count=count, nulls=nulls, not_finite=len(numbers))
    ordered = finite.sort()
    return ColumnProfile(
        kind=kind,
        count=count,
        nulls=nulls,
        not_finite=len(numbers) - len(finite),
        mean=_round(math.fsum(ordered) / len(ordered)),
        std=_round(float(ordered.std(ddof=0) or 0.0)),
        quantiles=tuple(_round(float(ordered[round(share * (len(ordered) - 1))])) for share in QUANTILES),
        whole=whole,
        categories=categories,
    )


def categories_of(series: pl.Series) -> dict[str, int] | None:
    """Each value as text and how often it occurs, in order of value; None where there are more than MAX_CATEGORIES."""
    present = series.drop_nulls()
    if present.n_unique() > MAX_CATEGORIES:
        return None
    counts = present.cast(pl.String).alias("value").value_counts(name="count").sort("value")
    return dict(zip(counts["value"].to_list(), counts["count"].to_list(), strict=True))


def _round(number: float) -> float:
    return float(f"{number:.12g}")
