"""The inputs at the end of a run (or right before it starts) are no longer the ones that were looked at when it was admitted.

Compares digests of what the lock covers. Cannot see a change that was undone in between, nor files the lock does not cover.
"""

from __future__ import annotations

from collections.abc import Sequence

from truerun.core.change import Change
from truerun.core.finding import Confidence, Finding, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="inputs-changed",
    summary="an input changed between admission and the end of the run",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
MAX_SHOWN = 20


def check_unchanged(changes: Sequence[Change], when: str) -> tuple[Finding, ...]:
    """One finding a change; *when* says in words what lies between the two looks: `before it started`, `while it ran`."""
    return tuple(
        RULE.finding(
            Subject(kind=_KINDS.get(change.kind.value, change.kind.value), name=change.name, key=change.key),
            f"{change.title()}: it changed {when}, after the run was admitted with the state before.",
            evidence={"declared": change.before, "observed": change.after},
            location=None,
            actor=change.actor,
            remedy="run again with the inputs as they were approved, or lock and approve them as they are now",
        )
        for change in changes[:MAX_SHOWN]
    )


_KINDS = {"checkpoint": "weights", "declaration": "config"}
