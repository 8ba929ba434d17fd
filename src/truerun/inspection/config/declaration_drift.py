"""Rule `declaration-drift`: a key of `truerun.toml` has another value than when it was approved.

What is declared decides what is checked, so a change here may hide others. Formatting and comments do not show.
"""

from __future__ import annotations

from collections.abc import Iterable

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference, shown

RULE = Rule(
    id="declaration-drift",
    summary="what truerun.toml declares is not what was approved",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


def check_declaration(changes: Iterable[Change], reference: Reference) -> tuple[Finding, ...]:
    """One finding for each changed key of the declaration."""
    return tuple(
        RULE.finding(
            Subject(kind="config", name=change.name, key=change.key),
            f"{change.key or change.name} is declared as {shown(change.after)}; {shown(change.before)} {reference.since}. "
            "Approve the change or restore it.",
            evidence={"declared": change.before, "observed": change.after, "change": change.id},
            location=Location(path=change.path, line=change.line),
            actor=change.actor,
            remedy=f"{reference.remedy}, or git checkout {change.name}",
        )
        for change in changes
        if change.kind is ChangeKind.DECLARATION and change.action is not Action.FORMATTED
    )
