"""Rule `data-shift`: somebody's new rows are distributed otherwise than the approved ones, more than chance explains.

Kolmogorov-Smirnov distance per numeric column and contributor, with its probability, so that many rows may not hide a
small shift and a few rows may not raise a false alarm. A contributor with a history is compared with that history too.
Rows need not be wrong for this: new sources are different. So it warns, and never calls it an error.
"""

from __future__ import annotations

import numpy as np

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import ALARM, Growth, actor_of, by
from truerun.inspection.data.quantiles import distance, finite
from truerun.inspection.data.tail import holm, kolmogorov_tail

RULE = Rule(
    id="data-shift",
    summary="somebody's new rows are distributed otherwise than the approved ones",
    severity=Severity.WARNING,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
_MIN_ROWS = 20
# The asymptotic tail is used two decades below the alarm, where it is conservative enough for small samples.
_ALARM = ALARM / 100


def check_shift(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each contributor with columns that are distributed otherwise, the most certain one first."""
    tests: dict[tuple[str, str], float] = {}
    distances: dict[tuple[str, str], float] = {}
    for column in growth.common:
        if not growth.approved[column].dtype.is_numeric() or not growth.now[column].dtype.is_numeric() or column == growth.label:
            continue
        approved = finite(growth.approved[column])
        for contributor in growth.added:
            new = finite(growth.rows_of(contributor, column))
            if len(new) < _MIN_ROWS or len(approved) < _MIN_ROWS:
                continue
            apart = distance(new, approved)
            chance = kolmogorov_tail(apart, len(new), len(approved))
            history = growth.history_of(contributor, column)
            if history is not None:
                own = finite(history)
                chance = max(chance, kolmogorov_tail(distance(new, own), len(new), len(own)))
            tests[column, contributor], distances[column, contributor] = chance, apart
    shifted: dict[str, list[str]] = {}
    for (column, contributor), chance in holm(tests).items():
        if chance < _ALARM:
            shifted.setdefault(contributor, []).append(column)
    return tuple(_finding(growth, who, columns, distances[columns[0], who]) for who, columns in shifted.items())


def _finding(growth: Growth, contributor: str, columns: list[str], apart: float) -> Finding:
    rows, column = growth.added[contributor], columns[0]
    others = f" {len(columns) - 1} more columns differ too." if len(columns) > 1 else ""
    new, approved = finite(growth.rows_of(contributor, column)), finite(growth.approved[column])
    return RULE.finding(
        growth.subject(column),
        f"{growth.name}: {column} in the {len(rows)} new rows{by(contributor)} is distributed otherwise (median "
        f"{np.median(new):g}, distance {apart:.2f}) than in the data that {growth.reference.since} (median {np.median(approved):g})."
        f"{others} Ask where these rows come from.",
        evidence={
            "declared": {"median": float(np.median(approved)), "mean": float(approved.mean()), "rows": len(approved)},
            "observed": {"median": float(np.median(new)), "mean": float(new.mean()), "rows": len(new)},
            "distance": apart,
            "contributor": contributor or None,
            "columns": columns[:50],
        },
        location=growth.location(rows),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )
