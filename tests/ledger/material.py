"""Material for ledger tests: made-up people, fixed keys, six entries."""

from truerun.core.actor import Person, Role
from truerun.core.decision import Answer
from truerun.core.digest import digest_bytes
from truerun.core.fact import LedgerCreated, LockDecided, LockProposed, PersonAdded, PersonRevoked
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import NoteSigner, render_note_key
from truerun.ledger.signing import Ed25519Signer
from truerun.ledger.store import MemoryStore

AT = "2026-11-20T09:30:00Z"
ORIGIN = "truerun/digits/0123456789abcdef"
LOG_KEY = NoteSigner(ORIGIN, b"\x07" * 32)
ANA, BEN, EVA = (Ed25519Signer.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
LOCK = digest_bytes(b"a lock")


def created(log_key=LOG_KEY):
    return LedgerCreated(project="digits", origin=log_key.key.name, log_key=render_note_key(log_key.key), at=AT)


def added(name, signer=ANA, role=Role.OWNER):
    return PersonAdded(person=Person(id=name, name=name.title(), role=role, keys=(signer.public_key,)), at=AT)


def revoked(number, reason="left"):
    return PersonRevoked(person=f"person-{number}", reason=reason, at=AT)


def proposed(lock=LOCK, parent=None, note=""):
    return LockProposed(lock=lock, changes=(), at=AT, parent=parent, note=note)


def decided(lock=LOCK, proposal=4, origin=ORIGIN):
    return LockDecided(lock=lock, answer=Answer.APPROVE, reason="looks right", origin=origin, proposal=proposal, at=AT)


def make_ledger(store=None, log_key=LOG_KEY):
    """created, three people, a proposal by Eva, an approval by Ben."""
    ledger = Ledger(store or MemoryStore(), log_key)
    ledger.append(created(log_key), ANA)
    ledger.append(added("ana"), ANA)
    ledger.append_all([added("ben", BEN, Role.MAINTAINER), added("eva", EVA, Role.ENGINEER)], ANA)
    ledger.append(proposed(), EVA)
    ledger.append(decided(), BEN)
    return ledger
