"""Rule `code-drift`: a source file of the project is not the approved one, from this line on.

Compares bytes by digest; the line needs the old text, which the object store keeps. A comment or a new format counts:
what is approved is the file, and reading what changed is the reviewer's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.inspection.reference import Reference

RULE = Rule(
    id="code-drift",
    summary="a source file differs from the approved one",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0010",
)


def check_code(changes: Iterable[Change], reference: Reference, texts: Mapping[str, tuple[bytes, bytes]]) -> tuple[Finding, ...]:
    """One finding for each changed file; *texts* holds the old and new bytes of files by path, as far as they are known."""
    return tuple(
        _finding(change, reference, texts.get(change.name))
        for change in changes
        if change.kind is ChangeKind.CODE and change.action is not Action.FORMATTED
    )


def first_difference(old: bytes, new: bytes) -> int:
    """The line of *new*, from 1, at which it first differs from *old*."""
    old_lines, new_lines = old.splitlines(), new.splitlines()
    same = next((i for i, (a, b) in enumerate(zip(old_lines, new_lines, strict=False)) if a != b), None)
    if same is None:
        same = min(len(old_lines), len(new_lines))
    return max(1, min(same + 1, len(new_lines)))


def _finding(change: Change, reference: Reference, text: tuple[bytes, bytes] | None) -> Finding:
    line = change.line or (first_difference(*text) if text and change.action is Action.MODIFIED else None)
    said = {
        Action.ADDED: f"is new; the lock that {reference.since} does not have it",
        Action.REMOVED: f"is gone; it {reference.since}",
    }.get(change.action, f"differs{f' from line {line} on' if line else ''} from what {reference.since}")
    return RULE.finding(
        Subject(kind="code", name=change.name),
        f"{change.name} {said}. Read the difference, then approve or restore it.",
        evidence={"declared": change.before, "observed": change.after, "change": change.id},
        location=Location(path=change.name, line=line),
        actor=change.actor,
        remedy=f"truerun diff, then {reference.remedy}, or git checkout {change.name}",
    )
