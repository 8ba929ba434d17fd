"""Rule `data-range`: numbers outside what the approved rows hold, or one value that stands in for many (a sentinel, a stuck sensor).

Three questions for each column and contributor. Do more new rows lie beyond the highest or lowest approved value than
chance explains (exact, whatever the distribution)? Does a single row lie so far out that it is another unit or sentinel?
Does one value repeat more often than it used to? Does not see errors that stay inside the range; `data-shift` does when
there are many of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import CERTAIN_ALARM, Growth, Rows, actor_of, by, few, severity_of
from truerun.inspection.data.quantiles import Numbers, finite
from truerun.inspection.data.tail import exceedance_tail, holm, predictive_tail

RULE = Rule(
    id="data-range",
    summary="numbers outside what the approved rows hold, or one value that stands in for many",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
# A single row is far out when it lies this many times the approved span beyond it. A heavy tail (log-normal, sigma 1)
# gets there about once in a quarter of a million rows.
FAR_SPANS = 3.0
_MIN_APPROVED = 20
_FEW_ROWS = 3
_FEW_VALUES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was seen for one question: which rows, in words, and how likely it is by chance."""

    rows: Rows
    what: str
    chance: float
    value: float | None = None


def check_range(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each column and contributor, with the rows."""
    tests: dict[tuple[str, str, str], _Seen] = {}
    for column in growth.common:
        if not growth.approved[column].dtype.is_numeric() or not growth.now[column].dtype.is_numeric():
            continue
        approved = finite(growth.approved[column])
        if len(approved) < _MIN_APPROVED or column == growth.label:
            continue
        for contributor, rows in growth.added.items():
            others = [finite(other) for other in _alike(growth, contributor, column) if other is not None]
            values = growth.rows_of(contributor, column).to_numpy().astype(np.float64)
            for question, seen in _questions(values, rows, approved, others).items():
                tests[column, contributor, question] = seen
    # What is far out is no matter of chance: it is not weighed against the number of questions asked.
    certain = {key: 0.0 for key, seen in tests.items() if key[2] == "far" and len(seen.rows)}
    chances = holm({key: seen.chance for key, seen in tests.items() if key[2] != "far"})
    found: dict[tuple[str, str], list[tuple[_Seen, float]]] = {}
    for (column, contributor, question), chance in {**certain, **chances}.items():
        if severity_of(chance):
            found.setdefault((column, contributor), []).append((tests[column, contributor, question], chance))
    return tuple(_finding(growth, column, contributor, seen) for (column, contributor), seen in found.items())


def _alike(growth: Growth, contributor: str, column: str) -> list[pl.Series | None]:
    """Approved values that the new ones may rather be like: the contributor's own, and those of rows with the same labels."""
    label, own = growth.classes, growth.history_of(contributor, column)
    if label is None:
        return [own]
    labels = growth.rows_of(contributor, label).unique()
    same = growth.approved.filter(pl.col(label).is_in(labels.implode()))[column]
    return [own, same if len(same) >= _MIN_APPROVED else None]


def _questions(values: Numbers, rows: Rows, approved: Numbers, others: list[Numbers]) -> dict[str, _Seen]:
    low, high = float(approved[0]), float(approved[-1])
    infinite = np.isinf(values)
    above, below = rows[values > high], rows[values < low]
    far = _far_out(values, approved)
    answers = {
        "above": _Seen(rows=above, what=f"above {high:g}", chance=exceedance_tail(len(above), len(rows), len(approved))),
        "below": _Seen(rows=below, what=f"below {low:g}", chance=exceedance_tail(len(below), len(rows), len(approved))),
        "far": _Seen(rows=rows[far | infinite], what=f"far outside {low:g} to {high:g}", chance=1.0),
    }
    repeated = _repeated(values, rows, approved, others)
    return answers | ({"repeated": repeated} if repeated else {})


def _far_out(values: Numbers, approved: Numbers) -> np.ndarray:
    """Rows that no tail explains: several spans away, and so on a logarithmic scale too where all approved values are positive."""
    low, high = float(approved[0]), float(approved[-1])
    lower, upper = np.quantile(approved, [0.25, 0.75])
    if not upper > lower:
        # Half of the approved values are one value: there is no scale on which the others could be far.
        return np.zeros(len(values), dtype=bool)
    span = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        far: np.ndarray = (values > high + FAR_SPANS * span) | (values < low - FAR_SPANS * span)
        if low > 0:
            log_span = np.log(high / low)
            far &= (values <= 0) | (np.abs(np.log(np.abs(values) / np.sqrt(low * high))) > log_span)
    return far


def _repeated(values: Numbers, rows: Rows, approved: Numbers, others: list[Numbers]) -> _Seen | None:
    """The value that repeats most beyond what it used to; in a column of few values, only one that is all there is."""
    least = 3 if len(np.unique(approved)) > _FEW_VALUES else max(len(rows), _FEW_VALUES)
    numbers, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    best: _Seen | None = None
    for position in np.flatnonzero(counts >= least):
        value, count = float(numbers[position]), int(counts[position])
        chance = predictive_tail(count, len(rows), _count(approved, value), len(approved))
        for other in others:
            chance = max(chance, predictive_tail(count, len(rows), _count(other, value), len(other)))
        # The value was chosen because it repeats: as many tests as there are values to choose from.
        chance = min(1.0, chance * len(numbers))
        if best is None or chance < best.chance:
            best = _Seen(rows=rows[values == value], what=f"exactly {value:g}", chance=chance, value=value)
    return best


def _count(ordered: Numbers, value: float) -> int:
    return int(np.searchsorted(ordered, value, side="right") - np.searchsorted(ordered, value, side="left"))


def _finding(growth: Growth, column: str, contributor: str, found: list[tuple[_Seen, float]]) -> Finding:
    approved = finite(growth.approved[column])
    rows = np.unique(np.concatenate([seen.rows for seen, _ in found]))
    chance = min(chance for _, chance in found)
    observed = growth.now[column].gather(rows).drop_nulls()
    words = " and ".join(f"{seen.what} ({len(seen.rows)} rows)" for seen, _ in found)
    return RULE.finding(
        growth.subject(column),
        f"{growth.name}: {column} is {words} in the {len(growth.added[contributor])} new rows{by(contributor)} "
        f"(rows {few(rows)}); the data that {growth.reference.since} has {approved[0]:g} to {approved[-1]:g}. "
        "Look for a changed unit, a lost sign or a value that means missing.",
        severity=severity_of(chance) if len(rows) >= _FEW_ROWS or chance > 0 else Severity.WARNING,
        confidence=Confidence.MEDIUM if chance >= CERTAIN_ALARM or len(rows) < _FEW_ROWS else None,
        evidence={
            "declared": {"min": float(approved[0]), "max": float(approved[-1]), "rows": len(approved)},
            "observed": {"min": _number(observed.min()), "max": _number(observed.max()), "rows": len(rows)},
            "contributor": contributor or None,
            "probability": chance,
        },
        location=growth.location(rows),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )


def _number(value: object) -> float | str | None:
    """A number JSON can hold; infinities and NaN as text."""
    if not isinstance(value, int | float):
        return None
    return float(value) if np.isfinite(value) else str(value)
