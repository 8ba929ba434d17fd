"""Missing evidence is evidence: processes that train unwatched, hooks taken out, records that stop or do not follow the secret.

Being inside the same process as what it watches, the probe can be silenced by whoever controls that process; the agent,
outside, notices that it was. Cannot tell a probe that was replaced by a perfect imitation.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="probe-silent",
    summary="training went on and the probe's records are missing",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)


def check_unwatched(unwatched: int, steps: int) -> tuple[Finding, ...]:
    """A finding for *unwatched* processes that had torch in memory and never said hello; *steps* were seen in others."""
    if not unwatched:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="unwatched process"),
            f"{unwatched} process{'es' if unwatched > 1 else ''} of this run loaded torch without the probe"
            + (": nothing of what it trained was checked." if not steps else "; others were watched."),
            evidence={"processes": unwatched, "steps_seen": steps},
            severity=Severity.WARNING if steps else Severity.ERROR,
            confidence=Confidence.MEDIUM if steps else Confidence.HIGH,
            remedy="run Python without -I, -E and -S, and keep PYTHONPATH and the TRUERUN_ variables for child processes",
        ),
    )


def check_unhooked(step: int, rank: int, what: str = "torch.optim") -> tuple[Finding, ...]:
    """A finding: what the probe looks through was taken out of *what* after *step*."""
    hooks = what == "torch.optim"
    said = "hooks were taken out of torch.optim: steps from here on are" if hooks else f"look at {what} was undone: its calls are"
    tables = "torch.optim.optimizer._global_optimizer_pre_hooks or _post_hooks"
    return (
        RULE.finding(
            Subject(kind="run", name="hooks", key=None if hooks else what),
            f"After step {step} the probe's {said} not checked.",
            location=Location(step=step, rank=rank),
            confidence=Confidence.CERTAIN,
            remedy=f"look for code that touches {tables if hooks else what}",
        ),
    )


def check_cut(step: int, rank: int) -> tuple[Finding, ...]:
    """A finding: the probe's line to the agent was closed after *step*, and the process goes on computing."""
    return (
        RULE.finding(
            Subject(kind="run", name="line"),
            f"After step {step} the probe's line was closed and the process goes on: steps from here on are not checked.",
            location=Location(step=step, rank=rank),
            remedy="look for code that closes file descriptors it did not open, or that touches the probe",
        ),
    )


def check_twice(rank: int, step: int, *, same_process: bool) -> tuple[Finding, ...]:
    """A finding: two lines hand over records as *rank* at a time, from the *same_process* or from two."""
    who = "One process speaks through two lines" if same_process else f"Two processes say that they are rank {rank}"
    return (
        RULE.finding(
            Subject(kind="run", name="line", key="two"),
            f"{who} (at step {step}): one of them may not be the training.",
            location=Location(step=step, rank=rank),
            severity=Severity.ERROR if same_process else Severity.WARNING,
            confidence=Confidence.CERTAIN,
            remedy="look for code that opens the probe's socket, or for a child process that trains and inherited RANK",
        ),
    )


def check_unrecorded(seconds: float, where: str, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding: samples of the stack show optimizer steps (*where*) and no record has come for *seconds*."""
    return (
        RULE.finding(
            Subject(kind="run", name="silence"),
            f"No record since step {step}, {seconds:.0f} s ago, while the process goes on stepping ({where}): the probe was silenced.",
            evidence={"seconds": round(seconds, 1), "term": "stepping"},
            location=Location(step=step, rank=rank),
            remedy="look for code that touches the probe or replaces step() of an optimizer",
        ),
    )


def check_gap(expected: int, got: int, rank: int) -> tuple[Finding, ...]:
    """A finding when the record of step *expected* is missing and that of *got* came instead."""
    if got == expected:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="records"),
            f"The records jump from step {expected - 1} to step {got}: what happened in between was not checked.",
            evidence={"expected": expected, "observed": got},
            location=Location(step=expected, rank=rank),
            remedy="look for what kept the process from handing over its records: a full pipe, a suspended agent, other code",
        ),
    )


def check_fault(step: int, what: str, rank: int, sense: str | None = None) -> tuple[Finding, ...]:
    """A finding: the probe, or one *sense* of it, met a fault of its own (*what*) and stopped watching after *step*."""
    stopped = "stopped watching" if sense is None else f"watches {sense} no longer"
    return (
        RULE.finding(
            Subject(kind="run", name="probe", key=sense),
            f"The probe met a fault after step {step} and {stopped}; training was not touched: {what}",
            evidence={"fault": what},
            location=Location(step=step, rank=rank),
            severity=Severity.WARNING,
            confidence=Confidence.CERTAIN,
            remedy="report the fault with the versions of torch and truerun",
        ),
    )


def check_dropped(dropped: int, rank: int) -> tuple[Finding, ...]:
    """A finding when the probe could not hand over *dropped* frames without making training wait."""
    if not dropped:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="dropped records"),
            f"{dropped} records were not handed over in time and are missing; training was not made to wait for them.",
            evidence={"dropped": dropped},
            location=Location(rank=rank),
            severity=Severity.WARNING,
            confidence=Confidence.CERTAIN,
            remedy="give the agent more processor time, or look less often: [monitoring] overhead",
        ),
    )


def check_quiet(seconds: float, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding: a process that stepped has computed for *seconds* without a record; an evaluation can take as long."""
    return (
        RULE.finding(
            Subject(kind="run", name="silence"),
            f"No record since step {step}, and the process has computed for {seconds:.0f} s since: a long evaluation, or the "
            "probe was silenced.",
            evidence={"seconds": round(seconds, 1)},
            location=Location(step=step, rank=rank),
            severity=Severity.WARNING,
            confidence=Confidence.LOW,
            remedy="py-spy dump --pid PID shows what the process is doing",
        ),
    )
