"""Who may sign, as a pure fold over the ledger: people, their keys, their roles, and from which entry until which.

The people who stood before an entry decide whether it changes them. An entry whose signer was not allowed to make it, or
that would let one person appear as two, has no effect; it stays in the ledger and is listed in `refused`.
What this cannot see: that an owner holds the keys of somebody they added. `oversight/approvals.py` limits what that buys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from truerun.core.actor import Actor, Basis, Person, Role
from truerun.core.fact import LedgerCreated, PersonAdded, PersonRevoked
from truerun.ledger.entry import Entry
from truerun.ledger.sshsig import parse_public_key
from truerun.oversight.membership import explain_membership

APPROVER_ROLES = (Role.OWNER, Role.MAINTAINER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A person as they stood from entry `since` to entry `until`, both included; None: still."""

    person: Person
    since: int
    until: int | None = None

    def covers(self, index: int | None) -> bool:
        """Whether it held at entry *index*, or holds now for None."""
        return self.until is None if index is None else self.since <= index and (self.until is None or index <= self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The entry that first gave a key to a person, the key that signed it, and whether one person alone could decide then."""

    person: str
    entry: int
    by: str
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An entry about people that has no effect, and why."""

    entry: int
    key: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """
    Everybody who may sign or once might.

    `grants` is by key. `founder` signed the ledger's first entry and `origin` is what that named it; `lost` are keys that
    were revoked one by one; `shared` says that two people who may approve have stood at once, now or ever; `envelopes` are
    the entries that counted, so that none counts twice.
    """

    standings: tuple[Standing, ...] = ()
    grants: Mapping[str, Grant] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    founder: str | None = None
    origin: str | None = None
    lost: frozenset[str] = frozenset()
    shared: bool = False
    envelopes: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Fold *entries*, in order and from the first."""
        people = cls()
        for entry in entries:
            people = people.after(entry)
        return people

    def after(self, entry: Entry) -> Self:
        """The people after one more entry."""
        fact = entry.fact
        if isinstance(fact, LedgerCreated) and entry.index == 0:
            return replace(self, founder=entry.key, origin=fact.origin)
        if not isinstance(fact, PersonAdded | PersonRevoked):
            return self
        reason = self._explain_entry(entry) or self.explain(fact, entry.key)
        if reason is not None:
            refused = Refused(entry=entry.index, key=entry.key, what=fact.KIND, reason=reason)
            return replace(self, refused=(*self.refused, refused))
        return self._changed(fact, entry)

    def all(self) -> tuple[Person, ...]:
        """Everybody who may sign now, in the order they came."""
        return tuple(standing.person for standing in self.standings if standing.until is None)

    def get(self, person: str, at_index: int | None = None) -> Person | None:
        """The person with that id who may sign now (or could at entry *at_index*), or None."""
        found = [s.person for s in self.standings if s.person.id == person and s.covers(at_index)]
        return found[-1] if found else None

    def known(self, person: str) -> Person | None:
        """The person with that id as they stood last, even if they may not sign any more, or None."""
        found = [s.person for s in self.standings if s.person.id == person]
        return found[-1] if found else None

    def resolve(self, public_key: str, at_index: int | None = None) -> Person | None:
        """Whose key it is now, or was at entry *at_index*; a key revoked by entry i resolves up to i and never after."""
        found = [s.person for s in self.standings if public_key in s.person.keys and s.covers(at_index)]
        return found[-1] if found else None

    def since(self, person: str) -> int | None:
        """The entry from which that person may sign without a break, or None when they may not."""
        index: int | None = None
        for standing in reversed([s for s in self.standings if s.person.id == person]):
            if index is None and standing.until is not None:
                return None
            if index is not None and standing.until != index:
                break
            index = standing.since
        return index

    def approvers(self, at_index: int | None = None) -> tuple[Person, ...]:
        """The owners and maintainers, robots aside, now or at entry *at_index*; each person once."""
        found = {s.person.id: s.person for s in self.standings if s.covers(at_index)}
        return tuple(person for person in found.values() if person.role in APPROVER_ROLES and not person.robot)

    def actor(self, public_key: str, at_index: int | None = None) -> Actor:
        """Who signed with that key: the person's id, or the key's fingerprint where it is nobody's."""
        person = self.resolve(public_key, at_index)
        return Actor(id=person.id if person is not None else parse_public_key(public_key).id, basis=Basis.SIGNED)

    def explain(self, fact: PersonAdded | PersonRevoked, key: str) -> str | None:
        """Why *fact*, signed by *key* as the next entry, would have no effect; None where it would count."""
        return explain_membership(self, fact, key)

    def _explain_entry(self, entry: Entry) -> str | None:
        if entry.envelope in self.envelopes:
            return "it repeats an earlier entry, as a replay does"
        if self.origin is not None and entry.seen.origin != self.origin:
            return "it was signed for another ledger"
        return None

    def _changed(self, fact: PersonAdded | PersonRevoked, entry: Entry) -> Self:
        # What stood before the entry ends with it, what it makes begins; a key keeps the grant it came with.
        current = self.get(fact_id(fact))
        person = _added(current, fact.person) if isinstance(fact, PersonAdded) else _revoked(current, fact.key)
        ended = tuple(replace(s, until=entry.index) if s.until is None and s.person == current else s for s in self.standings)
        begun = () if person is None else (Standing(person=person, since=entry.index),)
        given = () if person is None else person.keys
        granted = {key: Grant(person=fact_id(fact), entry=entry.index, by=entry.key, alone=not self.shared) for key in given}
        lost = self.lost | {fact.key} if isinstance(fact, PersonRevoked) and fact.key is not None else self.lost
        after = replace(self, standings=ended + begun, grants={**granted, **self.grants}, lost=lost)
        return replace(after, shared=self.shared or len(after.approvers()) > 1, envelopes=self.envelopes | {entry.envelope})


def fact_id(fact: PersonAdded | PersonRevoked) -> str:
    """The id of the person *fact* is about."""
    return fact.person.id if isinstance(fact, PersonAdded) else fact.person


def _added(current: Person | None, person: Person) -> Person:
    return person if current is None else replace(current, keys=tuple(dict.fromkeys((*current.keys, *person.keys))))


def _revoked(current: Person | None, key: str | None) -> Person | None:
    keys = tuple(line for line in current.keys if key is not None and line != key) if current is not None else ()
    return replace(current, keys=keys) if current is not None and keys else None
