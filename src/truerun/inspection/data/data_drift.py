"""Rule `data-drift`: a data set does not hold the approved rows: rows added, removed or in another order, by contributor.

Works on the difference of two locks by row, so a file written anew with the same rows never shows. Says that rows differ,
not whether they are good: that is the matter of the other data rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference

RULE = Rule(
    id="data-drift",
    summary="a data set does not hold the rows that were approved",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0020",
)
_VERBS = {Action.ROWS_ADDED: "added", Action.ROWS_REMOVED: "removed"}


def check_data(changes: Iterable[Change], reference: Reference) -> tuple[Finding, ...]:
    """One finding for each data set with a change that is more than formatting; unprotected ones are notes."""
    sets: dict[str, list[Change]] = {}
    for change in changes:
        if change.kind is ChangeKind.DATA and change.action is not Action.FORMATTED:
            sets.setdefault(change.name, []).append(change)
    return tuple(_finding(name, found, reference) for name, found in sorted(sets.items()))


def _finding(name: str, changes: Sequence[Change], reference: Reference) -> Finding:
    added = [row for change in changes if change.action is Action.ROWS_ADDED for row in change.detail.get("first_rows", ())]
    actors = {change.actor for change in changes}
    path = next((change.path for change in changes if change.path), None)
    return RULE.finding(
        Subject(kind="data", name=name),
        f"{name} is not the data that {reference.since}: {'; '.join(_said(change) for change in changes)}. "
        "Approve the change or restore the data.",
        severity=Severity.ERROR if any(change.protected for change in changes) else Severity.NOTE,
        evidence={"changes": [change.title() for change in changes], "change": changes[0].id},
        location=Location(path=path, rows=tuple(sorted(added)) or None),
        # Several people's rows have no one actor; the changes name each.
        actor=changes[0].actor if len(actors) == 1 else None,
        remedy=f"{reference.remedy}, or restore {path or name}",
    )


def _said(change: Change) -> str:
    verb = _VERBS.get(change.action)
    if verb is None:
        what = change.detail.get("what")
        return f"the {what} changed" if what else f"it was {change.action.value}"
    value = change.after if change.action is Action.ROWS_ADDED else change.before
    count = value["count"]
    return f"{count} row{'' if count == 1 else 's'} {verb}" + (f", contributed by {change.key}" if change.key else "")
