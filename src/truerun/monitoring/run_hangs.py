"""A training process that takes no further step and uses no processor time: a deadlock, a queue, a socket, a lost partner.

Judged by the run's own rhythm, and by processor time instead of the wall clock alone: a process that is slow because the
machine is busy still gets some. Cannot tell an upload or an evaluation on a device from a hang before it is over; hence a
warning first. A process that computes and records nothing is `probe-silent`.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.place import Place

RULE = Rule(
    id="run-hangs",
    summary="a training process takes no further step and computes nothing",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
)
MIN_SECONDS, MIN_FACTOR, MIN_LONGEST = 15.0, 50.0, 5.0
SURE_SECONDS, SURE_FACTOR = 600.0, 1000.0
COMPUTES_SHARE = 0.02


def is_overdue(quiet_seconds: float, usual_seconds: float, longest_seconds: float) -> bool:
    """Whether a step is overdue by far: against the median step and against the longest that this run has shown."""
    return quiet_seconds > max(MIN_SECONDS, MIN_FACTOR * usual_seconds, MIN_LONGEST * longest_seconds)


def check_hang(
    quiet_seconds: float, used_seconds: float, usual_seconds: float, place: Place | None, *, step: int, rank: int, why: str
) -> tuple[Finding, ...]:
    """
    A finding when a process whose next step is overdue has used next to no processor time meanwhile.

    *place* is where it waits, None when that could not be seen for the reason *why*. An error once it has lasted so long
    that no ordinary pause explains it.
    """
    if used_seconds > COMPUTES_SHARE * quiet_seconds:
        return ()
    sure = quiet_seconds > max(SURE_SECONDS, SURE_FACTOR * usual_seconds)
    where = f"It waits at {place.shown}." if place is not None else f"Where it waits could not be seen: {why}."
    return (
        RULE.finding(
            Subject(kind="run", name="process"),
            f"No step since step {step}, {quiet_seconds:.0f} s ago (a step takes {usual_seconds:.2g} s), and the process computes "
            f"nothing. {where}",
            evidence={
                "seconds": round(quiet_seconds, 1),
                "usual_seconds": round(usual_seconds, 4),
                "used_seconds": round(used_seconds, 2),
                "term": "sure" if sure else "overdue",
            },
            location=Location(
                path=place.frame.path if place else None, line=place.frame.line if place else None, step=step, rank=rank
            ),
            severity=Severity.ERROR if sure else Severity.WARNING,
            remedy="look at that line: a lock, a queue, a peer that is gone; other ranks may wait for this one",
        ),
    )
