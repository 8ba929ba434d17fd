"""Which answers in the ledger count, and in whose name: a pure fold over proposals and decisions.

An answer counts when it is signed by a person (no robot) whose key stood at that entry, names this ledger, and answers an
earlier proposal of exactly that lock, which its author had seen. Anything else is ignored, with the reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from truerun.core.actor import Person
from truerun.core.change import Action, Change
from truerun.core.digest import Digest
from truerun.core.fact import LockDecided, LockProposed
from truerun.ledger.history import History, Recorded
from truerun.oversight.people import People

# Two honest clocks may differ; an answer dated further before its question than this was dated by hand.
CLOCK_TOLERANCE = dt.timedelta(minutes=10)
_NOBODY = "its key belonged to nobody who might sign at that entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A lock proposed at `entry` by a person whose `key` stood then; `named` are the people its changes name as their authors."""

    entry: int
    key: str
    person: Person
    fact: LockProposed
    named: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """An answer that counts: `person` as they stood at `entry`."""

    entry: int
    key: str
    person: Person
    fact: LockDecided


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A proposal or an answer that does not count, and why."""

    entry: int
    lock: Digest
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Docket:
    """Everything said about locks that counts, in order, and what does not."""

    proposals: tuple[Proposal, ...]
    votes: tuple[Vote, ...]
    ignored: tuple[Ignored, ...]

    def last_votes(self, lock: Digest) -> tuple[Vote, ...]:
        """Each person's last answer to *lock*: whoever changes their mind is taken at their last word."""
        last = {vote.person.id: vote for vote in self.votes if vote.fact.lock == lock}
        return tuple(sorted(last.values(), key=lambda vote: vote.entry))


def read_docket(history: History, people: People) -> Docket:
    """Sort *history* into what counts and what does not."""
    proposals: dict[int, Proposal] = {}
    votes: list[Vote] = []
    ignored: list[Ignored] = []
    envelopes: set[bytes] = set()
    records: list[Recorded[LockProposed] | Recorded[LockDecided]] = [*history.all_proposals(), *history.decisions]
    for record in sorted(records, key=lambda item: item.index):
        fact, person = record.fact, people.resolve(record.key, record.index)
        reason = _explain_record(record, people, envelopes) or _explain_decision(record, people, proposals)
        if reason is not None or person is None:
            actor = people.actor(record.key, record.index).id
            ignored.append(Ignored(entry=record.index, lock=fact.lock, actor=actor, reason=reason or _NOBODY))
        elif isinstance(fact, LockProposed):
            named = frozenset(name for change in fact.changes for name in _names(change) if people.known(name) is not None)
            proposals[record.index] = Proposal(entry=record.index, key=record.key, person=person, fact=fact, named=named)
        else:
            votes.append(Vote(entry=record.index, key=record.key, person=person, fact=fact))
    return Docket(proposals=tuple(proposals.values()), votes=tuple(votes), ignored=tuple(ignored))


def speaks_for(people: People, key: str, at_entry: int, since: int) -> frozenset[str]:
    """
    The ids of everybody in whose interest *key* may speak, for changes made after entry *since*.

    Its own person, always. Behind a robot, also whoever added it. Behind a key that was given after *since*, also whoever
    gave it: an account made while a change is waiting is no second pair of eyes for the one who made it. Keys given
    while only one person could approve stand for themselves, or a team could never begin.
    """
    person, grant = people.resolve(key, at_entry), people.grants.get(key)
    ids = frozenset() if person is None else frozenset((person.id,))
    if person is None or grant is None or grant.by == key:
        return ids
    fresh = grant.entry > since and not grant.alone
    return ids | speaks_for(people, grant.by, grant.entry, since) if person.robot or fresh else ids


def explain_answer(fact: LockDecided, proposal: LockProposed, origin: str | None) -> str | None:
    """Why *fact* does not answer *proposal* in the ledger called *origin*, or None where it does."""
    if fact.origin != origin:
        return f"it answers a proposal of another ledger, {fact.origin[:80]!r}"
    if fact.lock != proposal.lock:
        return f"it is about lock {fact.lock.short}, and the entry it points to proposes {proposal.lock.short}"
    answered, asked = _parse_time(fact.at), _parse_time(proposal.at)
    if answered is None or (asked is not None and answered < asked - CLOCK_TOLERANCE):
        return f"it claims to be older ({fact.at[:32]}) than the proposal it answers ({proposal.at[:32]})"
    return None


def _explain_record(record: Recorded[LockProposed] | Recorded[LockDecided], people: People, envelopes: set[bytes]) -> str | None:
    entry = record.entry
    if people.resolve(record.key, record.index) is None:
        return _NOBODY
    if entry is None or entry.seen.origin != people.origin:
        return "it was signed for another ledger"
    if entry.envelope in envelopes:
        return "it repeats an earlier entry, as a replay does"
    envelopes.add(entry.envelope)
    return None


def _explain_decision(
    record: Recorded[LockProposed] | Recorded[LockDecided], people: People, proposals: dict[int, Proposal]
) -> str | None:
    fact, signer = record.fact, people.resolve(record.key, record.index)
    if not isinstance(fact, LockDecided):
        return None
    if signer is None or signer.robot:
        return "a robot does not decide"
    if fact.proposal not in proposals:
        return f"it points to entry {fact.proposal}, which is no earlier proposal that counts"
    if record.entry is None or record.entry.seen.size <= fact.proposal:
        return f"it was signed before entry {fact.proposal}, which it answers, could be seen"
    return explain_answer(fact, proposals[fact.proposal].fact, people.origin)


def _names(change: Change) -> Iterator[str]:
    """Everybody whom *change* names: its actor, the author git names, the contributor of its rows."""
    if change.actor is not None:
        yield change.actor.id
    if isinstance(author := change.detail.get("git_author"), str):
        yield author
    if change.action is Action.ROWS_ADDED and change.key:
        yield change.key


def _parse_time(text: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
