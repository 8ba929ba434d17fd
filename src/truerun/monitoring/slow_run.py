"""Every step slower than it should be: against `[training] step_seconds`, or against the approved run of the same program.

Compared are medians over many steps, without the time in the queue for a processor. Arithmetic itself is slower on a busy
machine (shared caches, memory, hardware threads), up to twofold, so processor time counts from three times on, and a
difference while the machine was busy is a note. On other hardware, or with another world size for what the ranks wait for
each other, nothing can be said. Always a warning: a slow run is late, not wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.step_times import PHASES

RULE = Rule(
    id="slow-run",
    summary="every step takes longer than was declared or than in the approved run",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
)
MIN_STEPS = 50
SLOWER = 1.5
COMPUTED_SLOWER = 3.0
LONG_SECONDS = 0.002
BUSY = 0.1


def check_declared(seconds: float, declared: float, steps: int, busy: float | None, rank: int) -> tuple[Finding, ...]:
    """A finding when the median step takes *seconds* and *declared* says much less."""
    if steps < MIN_STEPS or seconds <= SLOWER * declared:
        return ()
    return _finding(
        "step_seconds",
        f"A step takes {seconds:.3g} s (median of {steps}); [training] step_seconds says {declared:g}.",
        {"observed": round(seconds, 5), "declared": declared},
        busy,
        rank,
    )


def check_learned(
    now: Mapping[str, Any],
    then: Mapping[str, Any],
    *,
    same_hosts: bool,
    same_ranks: bool,
    origin: str,
    busy: float | None,
    rank: int,
) -> tuple[Finding, ...]:
    """
    Findings where the typical step (`StepTimes.typical`) computes or waits much longer *now* than *then*, in run *origin*.

    *same_hosts* says that processor and thread counts are the same, *same_ranks* that the world size is.
    """
    if not same_hosts or not then or not now or min(now["steps"], then["steps"]) < MIN_STEPS:
        return ()
    before = float(then["computed"]) + sum(map(float, then["waited"].values()))
    found: tuple[Finding, ...] = ()
    for phase in PHASES:
        if phase == "backward" and not same_ranks:
            continue
        waits, waited = float(now["waited"][phase]), float(then["waited"][phase])
        if waits - waited > max(LONG_SECONDS, (SLOWER - 1) * before):
            found += _finding(
                phase,
                f"Every step waits {waits:.3g} s in the phase `{phase}`; it was {waited:.3g} s in {origin}.",
                {"observed": waits, "learned": waited, "phase": phase},
                busy,
                rank,
            )
    computes, computed = float(now["computed"]), float(then["computed"])
    if computes - computed > LONG_SECONDS and computes > COMPUTED_SLOWER * computed:
        found += _finding(
            "computing",
            f"Every step computes {computes:.3g} s; it was {computed:.3g} s in {origin}, on the same kind of machine.",
            {"observed": computes, "learned": computed},
            busy,
            rank,
        )
    return found


def _finding(key: str, message: str, evidence: Mapping[str, Any], busy: float | None, rank: int) -> tuple[Finding, ...]:
    crowded = busy is not None and busy > BUSY
    return (
        RULE.finding(
            Subject(kind="run", name="step", key=key),
            message + (" The machine was busy with other work meanwhile." if crowded else ""),
            evidence={**evidence, "busy": None if busy is None else round(busy, 3)},
            location=Location(rank=rank),
            severity=Severity.NOTE if crowded else Severity.WARNING,
            confidence=Confidence.LOW if crowded else Confidence.MEDIUM,
            remedy="compare the two runs: changed code, other hardware, a sleep (slow-step names its line)",
        ),
    )
