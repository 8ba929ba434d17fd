"""Rule `config-drift`: a configuration key has another value than the approved one.

Works on the difference of two locks by key, so formatting, comments, order and `1e-3` for `0.001` never show.
"""

from __future__ import annotations

from collections.abc import Iterable

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference, shown

RULE = Rule(
    id="config-drift",
    summary="a configuration key has another value than the approved one",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


def check_config(changes: Iterable[Change], reference: Reference) -> tuple[Finding, ...]:
    """One finding for each changed key; keys that the policy does not protect are notes."""
    return tuple(
        _finding(change, reference)
        for change in changes
        if change.kind is ChangeKind.CONFIG and change.action is not Action.FORMATTED
    )


def _finding(change: Change, reference: Reference) -> Finding:
    restore = f"git checkout {change.path or change.name}"
    return RULE.finding(
        Subject(kind="config", name=change.name, key=change.key),
        f"{_what(change, reference)}. Approve the change or restore it.",
        severity=Severity.ERROR if change.protected else Severity.NOTE,
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=change.path or change.name, line=change.line),
        actor=change.actor,
        remedy=f"{reference.remedy}, or {restore}",
    )


def _what(change: Change, reference: Reference) -> str:
    what = change.key or f"the file {change.name}"
    if change.action is Action.REMOVED:
        value = f" with {shown(change.before)}" if change.key else ""
        return f"{what} is gone; it {reference.since}{value}"
    if change.action is Action.ADDED:
        value = f" with {shown(change.after)}" if change.key else ""
        return f"{what} is new{value}; the lock that {reference.since} does not have it"
    return f"{what} is {shown(change.after)}; {shown(change.before)} {reference.since}"
