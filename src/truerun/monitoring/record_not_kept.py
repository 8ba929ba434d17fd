"""Something of the record could not be written: a full disk, a read-only folder, a ledger that does not verify, no key."""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="record-not-kept",
    summary="the run went on and something of its record could not be written or vouched for",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
)


def check_kept(what: str, trouble: str | None, remedy: str | None = None) -> tuple[Finding, ...]:
    """A finding when *trouble* (in words) kept *what* (the ledger, the run's files, the signature) from being recorded."""
    if trouble is None:
        return ()
    return (
        RULE.finding(
            Subject(kind="ledger", name=what),
            f"The run was not stopped, but {what}: {trouble}",
            evidence={"trouble": trouble},
            remedy=remedy or "free space or repair what is named, and keep the run's folder as evidence",
        ),
    )
