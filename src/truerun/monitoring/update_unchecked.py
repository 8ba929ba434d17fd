"""Says once what was not checked and why: an optimizer or a kind of parameter whose update cannot be recomputed."""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import OptimizerSeen

RULE = Rule(
    id="update-unchecked",
    summary="the updates of an optimizer could not be recomputed",
    severity=Severity.NOTE,
    confidence=Confidence.CERTAIN,
)


def check_obstacle(seen: OptimizerSeen) -> tuple[Finding, ...]:
    """A note when the updates of *seen* cannot be recomputed."""
    if seen.obstacle is None:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=seen.kind),
            f"Could not tell whether the updates of {seen.kind} are right: {seen.obstacle}. "
            "Steps, losses and hyperparameters are recorded all the same.",
            evidence={"obstacle": seen.obstacle, "parameters": sum(seen.sizes)},
        ),
    )
