"""A step that uses the very gradients of the step before: no `backward` in between, and not a bit of them differs.

Cannot see a step repeated on gradients that were computed anew and came out equal: that has a `backward` of its own.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="stepped-twice",
    summary="an optimizer stepped again on the gradients that it had already used",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)


def check_used_again(kind: str, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding for a *step* that was seen to find the gradients of the one before, untouched."""
    return (
        RULE.finding(
            Subject(kind="run", name=kind, key="step()"),
            f"Step {step} used the gradients of the step before once more: no backward() ran in between and not a bit of the "
            "gradients looked at differs, so each batch counts twice.",
            location=Location(step=step, rank=rank),
            remedy="look for a second optimizer.step(), in a callback or a wrapper around the optimizer",
        ),
    )
