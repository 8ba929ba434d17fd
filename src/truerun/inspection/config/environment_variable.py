"""Rule `environment-variable`: a variable that the code reads has another value now than when the lock was approved.

Sees what is read by a literal name with the standard library (`os.environ["LR"]`, `os.environ.get("LR")`,
`os.getenv("LR")`). Does not see names that are computed; declare those under `[environment] variables`. A secret with another
digest is a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from truerun.core.change import Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference, shown

RULE = Rule(
    id="environment-variable",
    summary="an environment variable that the code reads has another value than when the lock was approved",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableRead:
    """One place in the code that reads an environment variable by name."""

    name: str
    path: str
    line: int


def check_variables(changes: Iterable[Change], reference: Reference, reads: Sequence[VariableRead]) -> tuple[Finding, ...]:
    """One finding for each variable whose value changed, at the place that reads it."""
    places: Mapping[str, VariableRead] = {read.name: read for read in reversed(reads)}
    return tuple(
        _finding(change, reference, places.get(change.key or ""))
        for change in changes
        if change.kind is ChangeKind.ENVIRONMENT and change.name == "environ" and change.key
    )


def _finding(change: Change, reference: Reference, read: VariableRead | None) -> Finding:
    now = "not set" if change.after is None else shown(change.after)
    before = "unset" if change.before is None else shown(change.before)
    where = f" {read.path}:{read.line} reads it." if read else ""
    return RULE.finding(
        Subject(kind="config", name="environment", key=change.key),
        f"the environment variable {change.key} is {now}; it was {before} in the lock that {reference.since}.{where} "
        "Set it back, or lock the new value and have it approved.",
        # A secret is another one for each colleague, and only its digest is recorded (`core/difference.py`).
        severity=Severity.ERROR if change.protected else Severity.NOTE,
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=read.path, line=read.line) if read else Location(),
        actor=change.actor,
        remedy=f"unset {change.key}" if change.before is None else f"export {change.key}={change.before}",
    )
