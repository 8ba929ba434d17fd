"""How a training process ended: by a signal from someone, by the kernel for lack of memory, or without a word.

A command's own exception is not a finding: its exit code and traceback say it all. Who sent a signal is not knowable from
outside; that one was passed on by the agent (Ctrl-C, a scheduler) is.
"""

from __future__ import annotations

import signal

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="process-killed",
    summary="a training process was ended by a signal or vanished without a word",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


def check_ending(
    returncode: int,
    *,
    passed_on: tuple[int, ...],
    out_of_memory: bool,
    timed_out: bool,
    vanished: int,
    step: int,
    first_rank: int | None = None,
) -> tuple[Finding, ...]:
    """
    A finding for a command that a signal ended, or whose training process did not say goodbye.

    *returncode* is negative for a signal (as `subprocess` has it), above 128 where a shell reports one. *passed_on* are
    signals that the agent itself passed on; *vanished* counts processes that had taken steps and fell silent at the end;
    *step* is where the run was, and of several that vanished where *first_rank* was, the first of them.
    """
    number = -returncode if returncode < 0 else (returncode - 128 if 128 < returncode < 128 + signal.NSIG and vanished else 0)
    if timed_out or (not number and not vanished):
        return ()
    subject, where = Subject(kind="run", name="process"), Location(step=step, rank=first_rank)
    if not number:
        return (
            RULE.finding(
                subject,
                f"{vanished} training process{'es' if vanished > 1 else ''} ended after step {step} without a word: "
                "killed from outside, or left by os._exit."
                + (
                    f" Of these rank {first_rank} was the first; the others may have been ended for it."
                    if first_rank is not None
                    else ""
                ),
                evidence={"processes": vanished, "exit_code": returncode},
                location=where,
                severity=Severity.WARNING if returncode == 0 else Severity.ERROR,
                confidence=Confidence.MEDIUM,
                remedy="look at the command's own output and the system log around that time",
            ),
        )
    name = _name(number)
    if number in passed_on:
        return (
            RULE.finding(
                subject,
                f"The run was stopped by {name} after step {step}; the signal was sent to truerun and passed on.",
                evidence={"signal": name, "passed_on": True},
                location=where,
                severity=Severity.NOTE,
            ),
        )
    memory = out_of_memory and number == signal.SIGKILL
    cause = "the kernel, for lack of memory" if memory else f"{name}, sent by another process"
    own = number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
    cause = f"{name}, a crash of its own" if own else cause
    return (
        RULE.finding(
            subject,
            f"The training process was ended after step {step} by {cause}.",
            evidence={"signal": name, "out_of_memory": memory, "passed_on": False},
            location=where,
            confidence=Confidence.HIGH if memory or own else Confidence.CERTAIN,
            remedy="give it more memory or a smaller batch"
            if memory
            else "ask who else may signal it; journalctl and dmesg may know",
        ),
    )


def check_worker(workers: str, name: object, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding: processes *workers* of a data loader ended; *name* is the signal, None when the loader does not know."""
    by = f"was ended by {name}" if name else "ended unexpectedly"
    return (
        RULE.finding(
            Subject(kind="run", name="data loader worker"),
            f"A worker of the data loader (pid {workers}) {by} after step {step}; the loader raised an error in the training process.",
            evidence={"workers": workers, "signal": name},
            location=Location(step=step, rank=rank),
            confidence=Confidence.CERTAIN if name else Confidence.HIGH,
            remedy="if it was SIGKILL: look for lack of memory (shared memory too), else ask who may signal it",
        ),
    )


def check_memory(what: str, where: str, step: int, rank: int) -> tuple[Finding, ...]:
    """A note: the program's own exception *what*, raised at *where*, was for lack of memory; nobody killed it."""
    return (
        RULE.finding(
            Subject(kind="run", name="process", key="memory"),
            f"The program ended itself after step {step} for lack of memory: {what}.",
            evidence={"exception": what, "where": where, "out_of_memory": True},
            location=Location(step=step, rank=rank),
            severity=Severity.NOTE,
            remedy="give it more memory or a smaller batch",
        ),
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
