"""The wall clock was set while a run went on, so that times in its record do not compare.

The steady clock (CLOCK_MONOTONIC) cannot be set; where the two part, the wall clock jumped. A machine that slept is told
apart by the clock that counts sleep (CLOCK_BOOTTIME). Cannot see a clock that is slowly steered.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="clock-jump",
    summary="the wall clock jumped while the run went on",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
)
JUMP_SECONDS = 2.0


def check_clock(jump_seconds: float, asleep_seconds: float, step: int) -> tuple[Finding, ...]:
    """
    A finding when the wall clock went *jump_seconds* more (or, negative, less) than the steady clock since the last look.

    *asleep_seconds* of these the machine itself was suspended: a note.
    """
    if abs(jump_seconds) <= JUMP_SECONDS:
        return ()
    suspended = abs(jump_seconds - asleep_seconds) <= JUMP_SECONDS and asleep_seconds > 0
    way = "forward" if jump_seconds > 0 else "back"
    what = (
        f"This machine was suspended for {asleep_seconds:.0f} s"
        if suspended
        else f"The wall clock jumped {way} by {abs(jump_seconds):.1f} s"
    )
    return (
        RULE.finding(
            Subject(kind="run", name="clock", key=way),
            f"{what} after step {step}: times in the record before and after it do not compare; the order of entries holds.",
            evidence={"seconds": round(jump_seconds, 2), "suspended_seconds": round(asleep_seconds, 2)},
            location=Location(step=step),
            severity=Severity.NOTE if suspended else Severity.WARNING,
            remedy=None if suspended else "look at time synchronisation (NTP) on this host, and at who may set its clock",
        ),
    )
