"""Rule `inspection-incomplete`: one kind of input could not be inspected, so "no findings" would say too much."""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="inspection-incomplete",
    summary="one kind of input could not be inspected",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
)


def check_complete(kind: str, could_not_tell: str | None, *, comparable: bool = True) -> tuple[Finding, ...]:
    """A finding when *could_not_tell* says why; a note where there is nothing approved or locked to compare with yet."""
    if could_not_tell is None:
        return ()
    return (
        RULE.finding(
            Subject(kind=kind, name=kind),
            f"{kind}: could not tell, because {could_not_tell}",
            severity=None if comparable else Severity.NOTE,
            evidence={"could_not_tell": could_not_tell},
            remedy=None if comparable else "truerun lock",
        ),
    )
