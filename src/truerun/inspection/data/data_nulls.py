"""Rule `data-nulls`: a column is empty (null or NaN) in more of somebody's new rows than chance explains.

Judged against all approved rows and, where a contributor has a history, against their own: who always left a column
empty may go on doing so. Does not see a value that stands for "missing"; that is `data-range`'s matter.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import Growth, Rows, actor_of, by, few, severity_of
from truerun.inspection.data.tail import grouped_tail, holm

RULE = Rule(
    id="data-nulls",
    summary="a column is empty in more of somebody's new rows than chance explains",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)


def check_nulls(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each column and contributor with too many empty values."""
    tests: dict[tuple[str, str], float] = {}
    empty_rows: dict[tuple[str, str], Rows] = {}
    for column in growth.common:
        before = empty(growth.approved[column])
        for contributor, rows in growth.added.items():
            missing = rows[empty(growth.rows_of(contributor, column))]
            history = growth.history_of(contributor, column)
            own = empty(history) if history is not None else before[:0]
            chance = grouped_tail(
                len(missing),
                len(rows),
                seen=int(before.sum()),
                total=len(before),
                own_seen=int(own.sum()),
                own_total=len(own),
            )
            tests[column, contributor] = chance
            empty_rows[column, contributor] = missing
    return tuple(
        _finding(growth, column, contributor, rows=empty_rows[column, contributor], chance=chance, severity=severity)
        for (column, contributor), chance in holm(tests).items()
        if (severity := severity_of(chance))
    )


def empty(series: pl.Series) -> np.ndarray:
    """Which values are null or NaN."""
    missing = series.is_null()
    if series.dtype.is_float():
        missing = missing | series.is_nan().fill_null(value=True)
    found: np.ndarray = missing.to_numpy()
    return found


def _finding(growth: Growth, column: str, contributor: str, *, rows: Rows, chance: float, severity: Severity) -> Finding:
    total = len(growth.added[contributor])
    before = empty(growth.approved[column])
    return RULE.finding(
        growth.subject(column),
        f"{growth.name}: {column} is empty in {len(rows)} of {total} new rows{by(contributor)} (rows {few(rows)}); "
        f"it is in {int(before.sum())} of the {len(before)} rows of the data that {growth.reference.since}. "
        "Fill them in, or leave the rows out.",
        severity=severity,
        evidence={
            "declared": {"empty": int(before.sum()), "rows": len(before)},
            "observed": {"empty": len(rows), "rows": total},
            "contributor": contributor or None,
            "probability": chance,
        },
        location=growth.location(rows),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )
