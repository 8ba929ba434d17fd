"""Steps that wait: sleeps at random, on one rank, from some step on, or in every step, with the line where it happens.

Two signs raise the question: steps that wait far longer than the run's own habit, and a stepping thread that the kernel
shows asleep (`nanosleep`) in a share of looks from outside. Samples of the stack answer it.

False alarms: numbers alone make at most a warning, because disks, other ranks, a GPU and busy neighbours make honest runs
wait. A sleep is told from all of these by the kernel and by the line, which a busy machine does not change. A program may
sleep by design (a simulator in real time, a learner that polls for actors), so a sleep is an error only where that is
excluded: inside torch, in `backward` or `step()`, or where the approved run of the same program did not sleep.
Cannot see a loop that burns processor time (`slow-run` may), or a sleep in another thread that this one waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.place import Place
from truerun.monitoring.step_times import Lost

RULE = Rule(
    id="slow-step",
    summary="training steps wait or sleep where they should compute",
    severity=Severity.WARNING,
    confidence=Confidence.HIGH,
)
SLEPT_SHARE = 0.05
MIN_LOOKS = 40
NEVER_ASLEEP = ("backward", "optimizer")
SAME = 0.5
BUSY = 0.1
WAITED_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How often the stepping thread was looked at from outside, how often it `slept`, and the first run's step it did so."""

    looks: int = 0
    slept: int = 0
    since_step: int = 0

    @property
    def share(self) -> float:
        """Share of the looks."""
        return self.slept / self.looks if self.looks else 0.0

    @property
    def is_much(self) -> bool:
        """Whether the sleeping can be no accident of when it was looked."""
        return self.looks >= MIN_LOOKS and self.share >= SLEPT_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an approved run showed: `places` that slept, with their shares; `same_program` as in Reference; `origin` in words."""

    places: Mapping[str, float]
    same_program: bool
    origin: str


def check_sleep(
    place: Place, looks: Looks, lost: Lost | None, known: Known | None, *, rank: int, step: int
) -> tuple[Finding, ...]:
    """
    A finding: the thread that steps sleeps at *place*; none where the *known* run did so as much.

    *lost* are steps that waited unusually long, if there are any; *step* is where the run is.
    """
    share = looks.share if looks.looks >= MIN_LOOKS else place.share
    if known is not None and share <= known.places.get(place.frame.shown, 0.0) / SAME:
        return ()
    phase, since = place.phase, min([*(lost.steps if lost else ()), *([looks.since_step] if looks.since_step else ())] or [step])
    unheard = known is not None and known.same_program and place.frame.shown not in known.places
    excluded = unheard or place.is_torch or phase in NEVER_ASLEEP
    when = f"steps {_listed(lost.steps)} by {lost.worst_seconds:.3g} s each" if lost else f"{100 * share:.0f} % of the time"
    then = f" It did not in {known.origin}." if known is not None and unheard else ""
    return (
        RULE.finding(
            Subject(kind="run", name="sleep", key=place.frame.shown),
            f"The training process sleeps at {place.shown}, in the phase `{phase}`: {when}, since step {since} or before.{then}",
            evidence={
                "phase": phase,
                "share": round(share, 4),
                "samples": place.samples,
                "looks": looks.looks,
                "asleep": looks.slept,
                **({"steps": list(lost.steps[:20]), "seconds": round(lost.seconds, 4)} if lost else {}),
            },
            location=Location(path=place.frame.path, line=place.frame.line, step=since, rank=rank),
            severity=Severity.ERROR if excluded else Severity.WARNING,
            remedy="look at that line and who changed it; where the sleep is meant, approve a run that has it",
        ),
    )


def check_unplaced_sleep(looks: Looks, rank: int, why: str) -> tuple[Finding, ...]:
    """A finding: the thread that steps sleeps a share of the time, at a line that could not be seen for the reason *why*."""
    return (
        RULE.finding(
            Subject(kind="run", name="sleep"),
            f"The training process sleeps {100 * looks.share:.0f} % of the time, since step {looks.since_step} or before; "
            f"the line could not be seen: {why}.",
            evidence={"share": round(looks.share, 4), "looks": looks.looks, "asleep": looks.slept},
            location=Location(step=looks.since_step, rank=rank),
            remedy="py-spy dump --pid PID shows what the process is doing",
        ),
    )


def check_wait(lost: Lost, place: Place | None, rank: int, busy: float | None, why_unplaced: str) -> tuple[Finding, ...]:
    """
    A warning for steps that waited unusually long and do not sleep, as far as could be seen; none for a regular pattern.

    *busy* is the share of time in which something on the machine waited for a processor, None where it does not say: on a
    busy machine the threads of one operation wait for one another, and that is nothing. Waiting for data is left to how
    the data is kept.
    """
    phase = place.phase if place is not None and place.phase != "other" else lost.phase
    crowded = busy is not None and busy > BUSY
    if crowded or lost.regular or phase == "data" or lost.share < WAITED_SHARE:
        return ()
    where = f"at {place.shown}" if place is not None else f"where could not be seen: {why_unplaced}"
    return (
        RULE.finding(
            Subject(kind="run", name="waiting", key=phase),
            f"{len(lost.steps)} of the last steps waited {lost.worst_seconds:.3g} s longer than usual in the phase `{phase}`, "
            f"{100 * lost.share:.0f} % of the time since step {lost.steps[0]}; {where}.",
            evidence={"phase": phase, "steps": list(lost.steps[:20]), "share": round(lost.share, 4), "busy": busy},
            location=Location(
                path=place.frame.path if place else None,
                line=place.frame.line if place else None,
                step=lost.steps[0],
                rank=rank,
            ),
            confidence=Confidence.LOW if place is None else Confidence.MEDIUM,
            remedy="look for what the process waits for there: a lock, a disk, another process",
        ),
    )


def _listed(steps: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, steps[:4]))
    return f"{shown} and {len(steps) - 4} more" if len(steps) > 4 else shown
