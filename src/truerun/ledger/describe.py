"""Any fact in one plain line, as timelines and `truerun ledger show` tell it. What was done, never why."""

from __future__ import annotations

from truerun.core.change import Change
from truerun.core.decision import Answer
from truerun.core.fact import (
    Fact,
    LedgerCreated,
    LockDecided,
    LockProposed,
    PersonAdded,
    PersonRevoked,
    RecoveryApplied,
    RunFinished,
    RunObserved,
    RunStarted,
    TraceFinished,
)
from truerun.core.finding import Finding

_TITLES = 2


def describe_fact(fact: Fact) -> str:
    """One line, without who and when; it may hold text that people wrote, so escape it where it is shown."""
    return " ".join(_describe(fact).split())


def _describe(fact: Fact) -> str:
    match fact:
        case LedgerCreated():
            return f"created the ledger of {fact.project}"
        case PersonAdded(person=person):
            mentor = f", mentor {person.mentor}" if person.mentor else ""
            return f"added {person.id} ({person.name}) as {person.role.value}{mentor}"
        case PersonRevoked():
            return f"revoked {'a key of ' if fact.key else ''}{fact.person}: {fact.reason}"
        case LockProposed():
            return f"proposed lock {fact.lock.short}: {_changes(fact.changes)}{_quoted(fact.note)}"
        case LockDecided():
            verb = "approved" if fact.answer is Answer.APPROVE else "rejected"
            return f"{verb} lock {fact.lock.short} (proposed in entry {fact.proposal}){_quoted(fact.reason)}"
        case RunStarted():
            lock = f" with lock {fact.lock.short}" if fact.lock else ""
            return f"started {fact.purpose} {fact.run}{lock} to {fact.mode.value}{_found(fact.findings)}"
        case RunObserved():
            return f"observed {fact.run}, rank {fact.rank}, steps {fact.first_step} to {fact.last_step}{_found(fact.findings)}"
        case RunFinished():
            return f"finished {fact.run}: {fact.verdict.value} after {fact.steps} steps in {fact.seconds:.0f} s{_found(fact.findings)}"
        case TraceFinished(attribution=attribution):
            suspects = [f"{suspect.change.title()} ({suspect.probability:.2f})" for suspect in attribution.suspects[:_TITLES]]
            return f"traced {attribution.run}: {attribution.verdict.value}" + (f": {', '.join(suspects)}" if suspects else "")
        case RecoveryApplied():
            return f"recovered from {fact.run} with lock {fact.lock.short}, without: {_changes(fact.removed)}"


def _changes(changes: tuple[Change, ...]) -> str:
    titles = [change.title() for change in changes[:_TITLES]]
    more = len(changes) - len(titles)
    return ("; ".join(titles) or "no changes") + (f"; {more} more" if more else "")


def _found(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return ""
    rules = sorted({finding.rule for finding in findings})
    return f", {len(findings)} finding{'s' if len(findings) != 1 else ''}: {', '.join(rules)}"


def _quoted(text: str) -> str:
    return f" — {text}" if text else ""
