"""What a report is built from: the ledger's history and people, one run, what it is compared with, and what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from truerun.core.attribution import Attribution, AttributionVerdict, Suspect
from truerun.core.change import Change
from truerun.core.declaration import Declaration
from truerun.core.digest import Digest
from truerun.core.fact import LockProposed, RecoveryApplied
from truerun.core.finding import Finding
from truerun.core.incident import Anchor, Curve, Outcome
from truerun.ledger.history import History, Recorded, RunHistory
from truerun.oversight.people import People

CONVICTED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    Everything known about one run, gathered by an application.

    `checkpoints` maps a run's id to the checkpoint files it wrote, as paths in the project. `mends` are proposals of a
    recovery: a lock that they lead to is clean again although convicted changes lie in its past.
    """

    declaration: Declaration
    history: History
    people: People
    run: RunHistory
    reference: RunHistory | None = None
    attribution: Attribution | None = None
    findings: tuple[Finding, ...] = ()
    curves: tuple[Curve, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    checkpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    anchor: Anchor | None = None

    def convicted(self) -> tuple[Suspect, ...]:
        """The changes that more likely than not made the run worse, likeliest first; none unless the trace attributed it."""
        if self.attribution is None or self.attribution.verdict is not AttributionVerdict.ATTRIBUTED:
            return ()
        likely = [suspect for suspect in self.attribution.suspects if suspect.probability >= CONVICTED]
        return tuple(sorted(likely, key=lambda suspect: -suspect.probability))

    def proposal_of(self, suspect: Suspect) -> Recorded[LockProposed] | None:
        """The entry that recorded *suspect*'s change: the one the trace names, else the newest before the run that lists it."""
        before = [record for record in self.history.all_proposals() if record.index < self.run.started.index]
        if suspect.lock_entry is not None:
            return next((record for record in before if record.index == suspect.lock_entry), None)
        return next((record for record in reversed(before) if lists(record.fact.changes, suspect.change)), None)

    def recovery(self) -> Recorded[RecoveryApplied] | None:
        """The newest recovery from this run, or None."""
        found = [record for record in self.history.recoveries if record.fact.run == self.run.id]
        return found[-1] if found else None

    def between(self) -> tuple[Recorded[LockProposed], ...]:
        """The proposals that lead from the reference's lock to the run's, oldest first; empty where they are not linked."""
        if self.reference is None:
            return ()
        begin, end = self.reference.started.fact.lock, self.run.started.fact.lock
        return (self.history.chain(begin, end) or ()) if begin is not None and end is not None else ()

    def locks_since(self, proposal: Recorded[LockProposed]) -> frozenset[Digest]:
        """The locks from *proposal*'s to the run's, both included: each holds what the proposal brought."""
        found = {proposal.fact.lock}
        end = self.run.started.fact.lock
        chain = self.history.chain(proposal.fact.lock, end) if end is not None else None
        return frozenset(found | {record.fact.lock for record in chain or ()})

    def is_tainted(self, lock: Digest | None) -> bool:
        """Whether *lock* holds a convicted change: its proposal is in the lock's past, and no recovery since has removed it."""
        if lock is None:
            return False
        clean = {record.fact.lock for record in self.history.recoveries}
        entries = {record.index for suspect in self.convicted() if (record := self.proposal_of(suspect)) is not None}
        current: Digest | None = lock
        seen: set[Digest] = set()
        while current is not None and current not in seen and current not in clean:
            seen.add(current)
            record = self.history.proposal(current)
            if record is None:
                return False
            if record.index in entries:
                return True
            current = record.fact.parent
        return False


def lists(changes: tuple[Change, ...], change: Change) -> bool:
    """Whether *change* is one of *changes*, whoever made it."""
    return any(item.id == change.id for item in changes)
