"""What the ledger tells, as one value: a pure fold over its entries. Judges nothing; whose signature counts is `oversight/`'s business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from truerun.core.digest import Digest
from truerun.core.errors import UsageError
from truerun.core.fact import (
    Fact,
    LedgerCreated,
    LockDecided,
    LockProposed,
    RecoveryApplied,
    RunFinished,
    RunObserved,
    RunStarted,
    TraceFinished,
)
from truerun.core.finding import Finding
from truerun.ledger.entry import Entry

F_co = TypeVar("F_co", bound=Fact, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Generic[F_co]):
    """A fact with the index of its entry and the public key line of its author; `entry` is the whole of it, for who must judge it."""

    index: int
    key: str
    fact: F_co
    entry: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """One run: how it began, the batches it was observed in, how it ended (None while it goes on, or was killed)."""

    started: Recorded[RunStarted]
    observed: tuple[Recorded[RunObserved], ...] = ()
    finished: Recorded[RunFinished] | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.started.fact.run

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found in it, in the order of the entries that hold it."""
        facts = (self.started.fact, *(item.fact for item in self.observed), *((self.finished.fact,) if self.finished else ()))
        return tuple(finding for fact in facts for finding in fact.findings)

    @property
    def last_index(self) -> int:
        """The index of the newest entry about it."""
        records = (self.started, *self.observed, self.finished)
        return max(record.index for record in records if record is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """
    Everything recorded, in order of entry.

    `proposals` maps a lock's digest to every entry that proposed it, oldest first. `runs` maps a run's id to its history:
    the first RunStarted of an id counts, and after it only what that run's key, or the key that started it, signed; what
    others recorded about it is in `strays`.
    """

    created: Recorded[LedgerCreated] | None = None
    proposals: Mapping[Digest, tuple[Recorded[LockProposed], ...]] = field(default_factory=dict)
    decisions: tuple[Recorded[LockDecided], ...] = ()
    runs: Mapping[str, RunHistory] = field(default_factory=dict)
    traces: tuple[Recorded[TraceFinished], ...] = ()
    recoveries: tuple[Recorded[RecoveryApplied], ...] = ()
    strays: tuple[Recorded[Fact], ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> History:
        """Fold *entries*, which must be in order."""
        fold = _Fold()
        for entry in entries:
            fold.take(Recorded(index=entry.index, key=entry.key, fact=entry.fact, entry=entry))
        return cls(
            created=fold.created,
            proposals={lock: tuple(records) for lock, records in fold.proposals.items()},
            decisions=tuple(fold.decisions),
            runs=fold.runs_history(),
            traces=tuple(fold.traces),
            recoveries=tuple(fold.recoveries),
            strays=tuple(fold.strays),
        )

    def proposal(self, lock: Digest) -> Recorded[LockProposed] | None:
        """The first entry that proposed *lock*."""
        return self.proposals[lock][0] if lock in self.proposals else None

    def latest_proposal(self) -> Recorded[LockProposed] | None:
        """The newest proposal of all."""
        return max((records[-1] for records in self.proposals.values()), key=lambda record: record.index, default=None)

    def all_proposals(self) -> tuple[Recorded[LockProposed], ...]:
        """Every proposal in order of entry."""
        records = (record for group in self.proposals.values() for record in group)
        return tuple(sorted(records, key=lambda record: record.index))

    def lock(self, prefix: str) -> Digest:
        """The proposed lock whose digest starts with *prefix* (with or without `sha256:`); raises UsageError unless exactly one does."""
        wanted = prefix.partition(":")[2] if ":" in prefix else prefix
        found = [lock for lock in self.proposals if wanted and lock.value.startswith(wanted.lower())]
        return _only(found, "lock", prefix, "truerun ledger show lists what was proposed")

    def run(self, prefix: str) -> RunHistory:
        """The run of this id, or the only one whose id starts with it; raises UsageError."""
        if prefix in self.runs:
            return self.runs[prefix]
        found = [run for name, run in self.runs.items() if prefix and name.startswith(prefix)]
        return _only(found, "run", prefix, "truerun runs lists them")

    def decisions_on(self, lock: Digest) -> tuple[Recorded[LockDecided], ...]:
        """What was decided on exactly *lock*, oldest first."""
        return tuple(record for record in self.decisions if record.fact.lock == lock)

    def chain(self, from_lock: Digest, to_lock: Digest) -> tuple[Recorded[LockProposed], ...] | None:
        """
        The proposals that lead from one lock to another, oldest first: their changes are what lies between the two.

        Follows parents backwards, newest proposal first; empty for equal locks, None where no line of parents links them.
        """
        if from_lock == to_lock:
            return ()
        # Depth first: (lock to explain, only proposals before this index, proposals found so far).
        waiting: list[tuple[Digest, int, tuple[Recorded[LockProposed], ...]]] = [(to_lock, 2**63, ())]
        visited: set[Digest] = set()
        while waiting:
            lock, before, found = waiting.pop()
            if lock == from_lock:
                return found
            if lock in visited:
                continue
            visited.add(lock)
            for record in self.proposals.get(lock, ()):  # the newest is pushed last and tried first
                parent = record.fact.parent
                if parent is not None and record.index < before:
                    waiting.append((parent, record.index, (record, *found)))
        return None


class _Fold:
    def __init__(self) -> None:
        self.created: Recorded[LedgerCreated] | None = None
        self.proposals: dict[Digest, list[Recorded[LockProposed]]] = {}
        self.decisions: list[Recorded[LockDecided]] = []
        self.traces: list[Recorded[TraceFinished]] = []
        self.recoveries: list[Recorded[RecoveryApplied]] = []
        self.strays: list[Recorded[Fact]] = []
        self._started: dict[str, Recorded[RunStarted]] = {}
        self._observed: dict[str, list[Recorded[RunObserved]]] = {}
        self._finished: dict[str, Recorded[RunFinished]] = {}

    def take(self, record: Recorded[Fact]) -> None:
        match record.fact:
            case LedgerCreated():
                self.created = self.created or cast(Recorded[LedgerCreated], record)
            case LockProposed(lock=lock):
                self.proposals.setdefault(lock, []).append(cast(Recorded[LockProposed], record))
            case LockDecided():
                self.decisions.append(cast(Recorded[LockDecided], record))
            case RunStarted() | RunObserved() | RunFinished():
                self._take_run(record, record.fact.run)
            case TraceFinished():
                self.traces.append(cast(Recorded[TraceFinished], record))
            case RecoveryApplied():
                self.recoveries.append(cast(Recorded[RecoveryApplied], record))
            case _:
                pass  # people and their keys are folded by oversight/people.py

    def _take_run(self, record: Recorded[Fact], run: str) -> None:
        started = self._started.get(run)
        if isinstance(record.fact, RunStarted):
            if started is None:
                self._started[run] = cast(Recorded[RunStarted], record)
                return
        elif started is not None and record.key in (started.fact.run_key, started.key):
            if isinstance(record.fact, RunObserved):
                self._observed.setdefault(run, []).append(cast(Recorded[RunObserved], record))
                return
            if run not in self._finished:
                self._finished[run] = cast(Recorded[RunFinished], record)
                return
        self.strays.append(record)

    def runs_history(self) -> dict[str, RunHistory]:
        return {
            run: RunHistory(started=started, observed=tuple(self._observed.get(run, ())), finished=self._finished.get(run))
            for run, started in self._started.items()
        }


T = TypeVar("T")


def _only(found: list[T], what: str, prefix: str, step: str) -> T:
    if len(found) != 1:
        problem = "no" if not found else f"{len(found)} {what}s match; no single"
        raise UsageError(f"{problem} {what} {prefix!r}", next_step=step)
    return found[0]
