"""A loss or a metric that is not a number any more: training goes on, learning does not."""

from __future__ import annotations

import math

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="metric-not-finite",
    summary="the loss or a reported metric is NaN or infinite",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


def check_finite(name: str, value: float, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding when *value* of *name* at *step* is NaN or infinite."""
    if math.isfinite(value):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=name),
            f"{name} is {value} at step {step}; what is learned from here on is noise. The last good checkpoint is older.",
            evidence={"observed": str(value)},
            location=Location(step=step, rank=rank),
            remedy="stop the run; truerun trace RUN looks for the change that brought it in",
        ),
    )
