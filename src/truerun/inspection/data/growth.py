"""What a data rule looks at: the rows of a data set that are not among the approved ones, by who added them.

A row that was edited in place counts as new: its digest is not among the approved ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from truerun.core.actor import Actor, Basis
from truerun.core.finding import Location, Severity, Subject
from truerun.inspection.reference import Reference

MAX_ROWS_NAMED = 1000
ALARM = 1e-3
CERTAIN_ALARM = 1e-6
Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """
    One data set now and as approved.

    `now` holds all rows in order; `approved` the approved rows (their order does not matter); `added` maps a contributor
    (the empty text: nobody named) to the numbers of their new rows in `now`; `removed` are the numbers of the rows of
    `approved` that are not there any more. `path` is the file to look into. `seed` chooses samples where there are too
    many rows to look at all.
    """

    name: str
    path: str | None
    now: pl.DataFrame
    approved: pl.DataFrame
    added: Mapping[str, Rows]
    reference: Reference
    label: str | None = None
    contributor: str | None = None
    id: str | None = None
    seed: int = 0
    removed: Rows | None = None

    @property
    def common(self) -> list[str]:
        """Columns that exist in both, in order, without those that say who or which row."""
        return [c for c in self.now.columns if c in self.approved.columns and c not in (self.contributor, self.id)]

    @property
    def classes(self) -> str | None:
        """The label's column where both frames hold it with one type that can name classes; None otherwise."""
        if self.label is None or self.label not in self.common:
            return None
        before, now = self.approved[self.label].dtype, self.now[self.label].dtype
        names = before in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) or before.is_numeric()
        return self.label if before == now and names else None

    @property
    def kept(self) -> pl.DataFrame:
        """The approved rows that are still there; a row that was edited in place is not."""
        if self.removed is None or not len(self.removed):
            return self.approved
        left = np.ones(self.approved.height, dtype=bool)
        left[self.removed] = False
        return self.approved.filter(pl.Series(left))

    def rows_of(self, contributor: str, column: str) -> pl.Series:
        """The values of *column* in the new rows of *contributor*."""
        return self.now[column].gather(self.added[contributor])

    def history_of(self, contributor: str, column: str) -> pl.Series | None:
        """The approved values of *column* that *contributor* added, where there are enough (20) to be a history."""
        if self.contributor is None or self.contributor not in self.approved.columns or not contributor:
            return None
        own = self.approved.filter(pl.col(self.contributor).cast(pl.String) == contributor)[column]
        return own if len(own) >= 20 else None

    def subject(self, column: str | None = None) -> Subject:
        """The subject of a finding about this data set."""
        return Subject(kind="data", name=self.name, key=column)

    def location(self, rows: Rows) -> Location:
        """Where to look: the file and the row numbers, at most MAX_ROWS_NAMED of them."""
        return Location(path=self.path, rows=tuple(int(row) for row in np.sort(rows)[:MAX_ROWS_NAMED]))

    def remedy(self) -> str:
        """What to do about rows that look wrong."""
        return f"look at these rows with whoever added them; correct or remove them, else {self.reference.remedy}"


def actor_of(contributor: str) -> Actor | None:
    """The contributor as a finding's actor; known from the column that says so, which is not proof."""
    return Actor(id=contributor, basis=Basis.CONTRIBUTOR) if contributor else None


def by(contributor: str) -> str:
    """` added by ana`, or nothing where nobody is named."""
    return f" added by {contributor}" if contributor else ""


def severity_of(probability: float) -> Severity | None:
    """An error below one in a million, a warning below one in a thousand, else nothing. Adjusted for the number of tests."""
    if probability < CERTAIN_ALARM:
        return Severity.ERROR
    return Severity.WARNING if probability < ALARM else None


def few(numbers: Rows) -> str:
    """The first few row numbers as text."""
    shown = ", ".join(str(int(number)) for number in np.sort(numbers)[:5])
    return shown + (", …" if len(numbers) > 5 else "")
