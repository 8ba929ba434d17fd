"""A gradient scaler that leaves out step after step: what is computed is thrown away.

A healthy scaler begins high and leaves out a few steps until its scale fits, then one in thousands. Many in a row at a scale that
has long come down, or does not come down, mean that the gradients are never finite, or that `update()` is not called.
"""

from __future__ import annotations

from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="scaler-skips",
    summary="the gradient scaler leaves out most steps",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)
IN_A_ROW = 10
LOW_SCALE = 1024.0
HALF, ENOUGH_CALLS = 0.5, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerSeen:
    """`calls` of scaler.step() so far, how many were `skipped`, the last `in_a_row`; the scale now and at the first of these."""

    step: int
    rank: int
    calls: int
    skipped: int
    in_a_row: int
    scale: float
    first_scale: float
    ended: bool


def check_scaler(seen: ScalerSeen) -> tuple[Finding, ...]:
    """A finding where steps are left out without end, or at the end half of them were."""
    stuck = seen.scale >= seen.first_scale
    if seen.in_a_row >= IN_A_ROW and (stuck or seen.scale <= LOW_SCALE):
        why = (
            f"the scale stays at {seen.scale:g}: update() is not called, or without effect"
            if stuck
            else f"the scale has come down to {seen.scale:g} and the gradients still are not finite"
        )
        text = f"The scaler has left out {seen.in_a_row} steps in a row ({seen.skipped} of {seen.calls} in all): {why}."
        severity, term = Severity.ERROR, "in a row"
    elif seen.ended and seen.calls >= ENOUGH_CALLS and seen.skipped >= HALF * seen.calls:
        text = f"The scaler left out {seen.skipped} of {seen.calls} steps; a healthy one leaves out a few when a run begins."
        severity, term = Severity.WARNING, "share"
    else:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="GradScaler"),
            text,
            evidence={"term": term, "calls": seen.calls, "skipped": seen.skipped, "in_a_row": seen.in_a_row, "scale": seen.scale},
            location=Location(step=seen.step, rank=seen.rank),
            severity=severity,
            remedy="look for infinite or NaN values in the loss or the data, for a scale that is set by hand, and at scaler.update()",
        ),
    )
