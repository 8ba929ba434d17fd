"""Rule `checkpoint-drift`: weights that a run starts from are not the approved file.

Compares digests of whole files: one altered weight shows, which one it is does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference

RULE = Rule(
    id="checkpoint-drift",
    summary="an input checkpoint is not the approved file",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018.000",
)


def check_checkpoints(changes: Iterable[Change], reference: Reference) -> tuple[Finding, ...]:
    """One finding for each input checkpoint that was replaced, added or removed."""
    return tuple(_finding(change, reference) for change in changes if change.kind is ChangeKind.CHECKPOINT)


def _finding(change: Change, reference: Reference) -> Finding:
    said = {
        Action.ADDED: f"is new; the lock that {reference.since} does not have it",
        Action.REMOVED: f"is gone; it {reference.since}",
    }.get(change.action, f"does not hold the bytes of the file that {reference.since}")
    return RULE.finding(
        Subject(kind="weights", name=change.name),
        f"{change.name} {said}. Restore the approved file, or have this one approved before it is loaded.",
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=change.path or change.name),
        actor=change.actor,
        remedy=f"restore {change.name}, or {reference.remedy}",
    )
