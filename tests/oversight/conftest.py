"""A small made-up team with real keys and a real ledger in memory."""

import hashlib

import pytest

from truerun.core.actor import Person, Role
from truerun.core.decision import Answer
from truerun.core.digest import Digest, digest_bytes
from truerun.core.fact import LedgerCreated, LockDecided, LockProposed, PersonAdded, PersonRevoked
from truerun.core.lock import Lock, LockedEnvironment, LockedFile
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import NoteSigner, render_note_key
from truerun.ledger.signing import Ed25519Signer
from truerun.ledger.store import MemoryStore
from truerun.oversight.people import People

AT = "2026-11-20T09:30:00Z"


def signer(name: str) -> Ed25519Signer:
    return Ed25519Signer.from_seed(hashlib.sha256(name.encode()).digest())


def make_lock(content: str, *, critical: bool = True) -> Lock:
    file = LockedFile(path="truerun.toml", digest=digest_bytes(content.encode()), size=len(content))
    return Lock(
        project="digits",
        command="python train.py",
        critical=critical,
        declaration=file,
        environment=LockedEnvironment(python="3.11"),
    )


class Team:
    """Everything a story needs: people act by name, each with the key of the same name unless `key` says otherwise."""

    def __init__(self, origin: str = "example.org/digits", founder: str = "olga") -> None:
        self.origin = origin
        log = NoteSigner(origin, hashlib.sha256(origin.encode()).digest())
        self.ledger = Ledger(MemoryStore(), log)
        self.ledger.append(
            LedgerCreated(project="digits", origin=origin, log_key=render_note_key(log.key), at=AT), signer(founder)
        )
        self.add(founder, Role.OWNER, by=founder)

    def record(self, fact, by: str):
        return self.ledger.append(fact, signer(by))

    def add(self, person: str, role: Role = Role.ENGINEER, *, by: str = "olga", mentor=None, robot=False, keys=None, name=None):
        lines = tuple(signer(key).public_key for key in keys or (person,))
        value = Person(id=person, name=name or f"{person.title()} (made up)", role=role, keys=lines, mentor=mentor, robot=robot)
        return self.record(PersonAdded(person=value, at=AT), by)

    def revoke(self, person: str, *, by: str = "olga", key=None):
        line = signer(key).public_key if key else None
        return self.record(PersonRevoked(person=person, reason="left", at=AT, key=line), by)

    def propose(self, content: str | Lock, *, by: str, changes=(), at: str = AT) -> int:
        lock = content if isinstance(content, Lock) else make_lock(content)
        return self.record(LockProposed(lock=lock.digest, changes=changes, at=at), by).index

    def decide(self, content: str | Lock | Digest, *, by: str, proposal: int, answer=Answer.APPROVE, origin=None, at: str = AT):
        digest = (
            make_lock(content).digest if isinstance(content, str) else content.digest if isinstance(content, Lock) else content
        )
        fact = LockDecided(
            lock=digest, answer=answer, reason="looked at it", origin=origin or self.origin, proposal=proposal, at=at
        )
        return self.record(fact, by)

    def people(self) -> People:
        return People.of(self.ledger.entries())


@pytest.fixture
def lone() -> Team:
    """Only the founding owner, olga."""
    return Team()


@pytest.fixture
def team() -> Team:
    """Olga (owner), mira (maintainer), emil (engineer), and tara (trainee, mentored by mira)."""
    team = Team()
    team.add("mira", Role.MAINTAINER)
    team.add("emil")
    team.add("tara", Role.TRAINEE, mentor="mira")
    return team


@pytest.fixture
def another_team():
    """Makes further teams, for stories that need two."""
    return Team
