"""Rule `data-set`: a column of categories holds values that the approved rows do not know, or a known one spelled anew.

How likely an honest row is to bring a new category is estimated from how many categories occur once (Good and Turing), so
that free text and names raise no alarm. A spelling that differs only in case, spaces, punctuation or Unicode form from a
known category is named at its first row. Does not judge how often known categories occur.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import polars as pl

from truerun.core.finding import Confidence, Finding, Severity
from truerun.core.rule import Rule
from truerun.inspection.data.growth import CERTAIN_ALARM, Growth, Rows, actor_of, by, few, severity_of
from truerun.inspection.data.profile import MAX_CATEGORIES
from truerun.inspection.data.tail import holm, predictive_tail

RULE = Rule(
    id="data-set",
    summary="a column of categories holds values that the approved rows do not know",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
_MIN_APPROVED = 20


def check_set(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each column and contributor with unknown categories."""
    tests: dict[tuple[str, str], float] = {}
    strange: dict[tuple[str, str], tuple[Rows, dict[str, str | None]]] = {}
    for column in growth.common:
        known = _categories(growth.approved[column], label=column == growth.label)
        if known is None or known.total() < _MIN_APPROVED or growth.now[column].dtype != growth.approved[column].dtype:
            continue
        spellings = {_plain(value): value for value in known}
        once = sum(1 for count in known.values() if count == 1)
        for contributor, rows in growth.added.items():
            values = growth.rows_of(contributor, column).cast(pl.String)
            unknown = (~values.is_in(list(known)) & values.is_not_null()).to_numpy().astype(bool)
            new = {value: spellings.get(_plain(value)) for value in values.filter(unknown).unique().sort().to_list()}
            chance = predictive_tail(int(unknown.sum()), len(rows), once, known.total())
            spelled_anew = any(new.values()) and growth.now[column].dtype == pl.String
            tests[column, contributor] = min(chance, CERTAIN_ALARM / 1e6) if spelled_anew else chance
            strange[column, contributor] = rows[unknown], new
    return tuple(
        _finding(growth, column, contributor, found=strange[column, contributor], chance=chance, severity=severity)
        for (column, contributor), chance in holm(tests).items()
        if (severity := severity_of(chance))
    )


def _categories(series: pl.Series, *, label: bool) -> Counter[str] | None:
    """How often each category occurs; None for a column that is not one of categories."""
    kinds = (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
    if series.dtype not in kinds and not (label and series.dtype.is_integer()):
        return None
    counts = series.drop_nulls().cast(pl.String).alias("value").value_counts(name="count")
    known = Counter(dict(zip(counts["value"].to_list(), counts["count"].to_list(), strict=True)))
    return known if len(known) <= MAX_CATEGORIES else None


def _plain(text: str) -> str:
    """*text* without what people and programs vary: case, spaces, punctuation, Unicode form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum()) or folded


def _finding(
    growth: Growth,
    column: str,
    contributor: str,
    *,
    found: tuple[Rows, dict[str, str | None]],
    chance: float,
    severity: Severity,
) -> Finding:
    rows, new = found
    spelled = [f"{value!r} for {known!r}" for value, known in new.items() if known is not None]
    other = [repr(value) for value, known in new.items() if known is None]
    words = ", ".join([*spelled, *other][:5]) + (", …" if len(new) > 5 else "")
    return RULE.finding(
        growth.subject(column),
        f"{growth.name}: {column} has {len(new)} {'value' if len(new) == 1 else 'values'} that the data that "
        f"{growth.reference.since} does not know, in {len(rows)} of {len(growth.added[contributor])} new rows"
        f"{by(contributor)} (rows {few(rows)}): {words}. Correct the spelling, or have the new categories approved.",
        severity=severity,
        evidence={
            "declared": {"categories": "known"},
            "observed": {"values": list(new)[:20], "rows": len(rows)},
            "contributor": contributor or None,
            "probability": chance,
        },
        location=growth.location(np.asarray(rows)),
        actor=actor_of(contributor),
        remedy=growth.remedy(),
    )
