"""Facts: what can be recorded in the ledger. Each is a frozen value; its KIND names the in-toto predicate type.

Every `at` is the author's claim, RFC 3339 in UTC (`2026-11-20T09:30:00Z`); the order of entries is the only order proved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from truerun.core.actor import Person
from truerun.core.attribution import Attribution
from truerun.core.change import Change
from truerun.core.codec import from_json, to_json
from truerun.core.decision import Answer, Decision
from truerun.core.digest import Digest
from truerun.core.errors import FormatError
from truerun.core.finding import Finding
from truerun.core.run import Mode, Overhead, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCreated:
    """The first entry: `origin` names the ledger for good (C2SP tlog-checkpoint), `log_key` is what signs its tree heads."""

    KIND: ClassVar[str] = "ledger-created"
    project: str
    origin: str
    log_key: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAdded:
    """A person with their keys and role; the first one signs for themselves, all later ones need an owner or maintainer."""

    KIND: ClassVar[str] = "person-added"
    person: Person
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRevoked:
    """A person (or with `key` only one of their keys) may not sign any more, from this entry on."""

    KIND: ClassVar[str] = "person-revoked"
    person: str
    reason: str
    at: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockProposed:
    """A lock, the lock it was compared with and every change between them."""

    KIND: ClassVar[str] = "lock-proposed"
    lock: Digest
    changes: tuple[Change, ...]
    at: str
    parent: Digest | None = None
    commit: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDecided:
    """A person's answer to one exact lock. `origin` binds it to this ledger, `proposal` to the entry that proposed the lock."""

    KIND: ClassVar[str] = "lock-decided"
    lock: Digest
    answer: Answer
    reason: str
    origin: str
    proposal: int
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins; `run_key` is the public key that signs its observations, vouched for by whoever signs this entry."""

    KIND: ClassVar[str] = "run-started"
    run: str
    lock: Digest | None
    mode: Mode
    command: tuple[str, ...]
    run_key: str
    decision: Decision | None
    findings: tuple[Finding, ...]
    at: str
    purpose: str = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunObserved:
    """A batch of one rank's step records: which steps, the digest of the record file's bytes so far, and new findings."""

    KIND: ClassVar[str] = "run-observed"
    run: str
    rank: int
    first_step: int
    last_step: int
    records: Digest
    records_size: int
    findings: tuple[Finding, ...]
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """
    A run ended. `metrics` are last values; `effective` the hyperparameters it was seen to use at its first steps; `findings`
    those that neither its start nor a batch holds: of its outputs, and of inputs that changed while it ran.
    """

    KIND: ClassVar[str] = "run-finished"
    run: str
    verdict: Verdict
    command_exit: int | None
    steps: int
    seconds: float
    metrics: Mapping[str, float]
    overhead: Overhead
    at: str
    effective: Mapping[str, Any] = field(default_factory=dict)
    outputs: Digest | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFinished:
    """An attribution was made."""

    KIND: ClassVar[str] = "trace-finished"
    attribution: Attribution
    seconds: float
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryApplied:
    """A clean lock was written without the convicted changes; `quarantine` is the stored table of rows set aside."""

    KIND: ClassVar[str] = "recovery-applied"
    run: str
    lock: Digest
    removed: tuple[Change, ...]
    at: str
    quarantine: Mapping[str, Digest] = field(default_factory=dict)


Fact = (
    LedgerCreated
    | PersonAdded
    | PersonRevoked
    | LockProposed
    | LockDecided
    | RunStarted
    | RunObserved
    | RunFinished
    | TraceFinished
    | RecoveryApplied
)
FACTS: dict[str, type[Fact]] = {
    fact.KIND: fact
    for fact in (
        LedgerCreated,
        PersonAdded,
        PersonRevoked,
        LockProposed,
        LockDecided,
        RunStarted,
        RunObserved,
        RunFinished,
        TraceFinished,
        RecoveryApplied,
    )
}
PREDICATE_PREFIX = "urn:truerun:"
PREDICATE_VERSION = 1


def render_predicate(fact: Fact) -> tuple[str, Any]:
    """The predicate type (a URI) and the predicate (plain JSON) of *fact*."""
    return f"{PREDICATE_PREFIX}{fact.KIND}:{PREDICATE_VERSION}", to_json(fact)


def parse_predicate(predicate_type: str, predicate: Any) -> Fact:
    """Inverse of render_predicate; raises FormatError for a kind or version this program does not know."""
    prefix, _, rest = predicate_type.partition(PREDICATE_PREFIX)
    kind, _, version = rest.partition(":")
    if prefix or kind not in FACTS or version != str(PREDICATE_VERSION):
        raise FormatError("an unknown kind of entry", got=predicate_type[:80], expected=", ".join(FACTS))
    return from_json(FACTS[kind], predicate, kind)


def named_digests(fact: Fact) -> dict[str, Digest]:
    """The digests *fact* is about, by name: the subjects of its statement (in-toto Statement v1)."""
    named: dict[str, Digest] = {}
    for name in ("lock", "parent", "records", "outputs"):
        value = getattr(fact, name, None)
        if isinstance(value, Digest):
            named[name] = value
    return named
