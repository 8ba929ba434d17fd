"""Rule `data-schema`: columns were removed, added, renamed, exchanged or have another type than in the approved data.

Two columns count as exchanged when each now looks like the other did and neither like itself. Does not judge values.
"""

from __future__ import annotations

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.data.growth import Growth
from truerun.inspection.data.quantiles import distance, finite

RULE = Rule(
    id="data-schema",
    summary="the columns are not those of the approved data",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0020",
)
_UNLIKE, _ALIKE, _MIN_ROWS, _MAX_COLUMNS = 0.4, 0.15, 30, 200


def check_schema(growth: Growth) -> tuple[Finding, ...]:
    """One finding for each column that is missing, new, exchanged or of another type."""
    now = {name: str(kind) for name, kind in growth.now.schema.items()}
    before = {name: str(kind) for name, kind in growth.approved.schema.items()}
    renamed = _renamed(growth, now, before)
    findings = [_finding(growth, old, f"is called {new} now", now[new], before[old]) for old, new in renamed.items()]
    for name, kind in before.items():
        if name not in now and name not in renamed:
            findings.append(_finding(growth, name, "is gone", None, kind))
        elif name in now and now[name] != kind:
            findings.append(_finding(growth, name, f"has type {now[name]}; it had {kind}", now[name], kind))
    findings += [
        _finding(growth, name, "is new", now[name], None, severity=Severity.WARNING)
        for name in now
        if name not in before and name not in renamed.values()
    ]
    findings += [
        _finding(growth, a, f"and {b} look exchanged: each now holds what the other held", b, a) for a, b in _exchanged(growth)
    ]
    return tuple(findings)


def _finding(growth: Growth, column: str, said: str, now: object, before: object, *, severity: Severity | None = None) -> Finding:
    return RULE.finding(
        Subject(kind="data", name=growth.name, key=column),
        f"{growth.name}: the column {column} {said}; the data with the other columns {growth.reference.since}. "
        "Restore the column, or have the new columns approved.",
        severity=severity,
        confidence=Confidence.HIGH if "look exchanged" in said else None,
        evidence={"declared": before, "observed": now},
        location=Location(path=growth.path),
        remedy=f"restore {growth.path or growth.name}, or {growth.reference.remedy}",
    )


def _renamed(growth: Growth, now: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """Old name -> new name, where exactly one new column holds what the missing one held."""
    renamed: dict[str, str] = {}
    for old, kind in before.items():
        if old in now:
            continue
        held = growth.approved[old].head(1000).to_list()
        fits = [
            new for new in now if new not in before and now[new] == kind and growth.now[new].head(len(held)).to_list() == held
        ]
        if len(fits) == 1 and fits[0] not in renamed.values():
            renamed[old] = fits[0]
    return renamed


def _exchanged(growth: Growth) -> list[tuple[str, str]]:
    columns = [c for c in growth.common[:_MAX_COLUMNS] if growth.now[c].dtype == growth.approved[c].dtype]
    columns = [c for c in columns if growth.now[c].dtype.is_numeric() and c != growth.label]
    if growth.now.height < _MIN_ROWS or growth.approved.height < _MIN_ROWS:
        return []
    now = {c: finite(growth.now[c]) for c in columns}
    before = {c: finite(growth.approved[c]) for c in columns}
    moved = [c for c in columns if _apart(now[c], before[c]) > _UNLIKE]
    return [
        (a, b)
        for i, a in enumerate(moved)
        for b in moved[i + 1 :]
        if _apart(now[a], before[b]) < _ALIKE and _apart(now[b], before[a]) < _ALIKE
    ]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return distance(a, b) if len(a) >= _MIN_ROWS and len(b) >= _MIN_ROWS else 0.0
