"""A training process that was stopped (SIGSTOP, SIGTSTP, a debugger) and perhaps resumed, while the agent went on.

The state comes from the kernel, so it is certain. Who stopped it is not knowable from outside: the signal's sender is told
to the process alone, and SIGSTOP cannot be handled. Cannot see stops shorter than the distance of two looks, a frozen
control group, or a stop that the agent shared (Ctrl-Z, a suspended job).
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="process-stopped",
    summary="a training process was stopped by a signal and did not compute",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
)
MIN_SECONDS = 0.5


def check_stop(seconds: float, total_seconds: float, times: int, *, resumed: bool, step: int, rank: int) -> tuple[Finding, ...]:
    """
    A finding: the process has been stopped for *seconds*, or was and has *resumed*; in all *times* stops, *total_seconds*.

    One that lasted less than MIN_SECONDS counts only when there were many.
    """
    if max(seconds, total_seconds) < MIN_SECONDS:
        return ()
    state = f"was stopped for {seconds:.1f} s after step {step} and resumed" if resumed else f"is stopped since step {step}"
    often = f"; {times} stops in all, {total_seconds:.1f} s" if times > 1 else ""
    return (
        RULE.finding(
            Subject(kind="run", name="process"),
            f"The training process {state}{often}. A signal (SIGSTOP, SIGTSTP) or a debugger does that; whose is not knowable here.",
            evidence={
                "seconds": round(seconds, 2),
                "total_seconds": round(total_seconds, 2),
                "stops": times,
                "term": "resumed" if resumed else "stopped",
            },
            location=Location(step=step, rank=rank),
            remedy="kill -CONT PID resumes it; ask who else may signal it" if not resumed else "ask who else may signal it",
        ),
    )
