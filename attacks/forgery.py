"""What somebody could write who knows Truerun's own library and holds the project's folder: entries past the command line.

The log key lies in the project's folder, so a forger may have it. People's keys are used only where the story says that
their holder acts.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from attacks.project import OWNER, Project
from truerun.adapters.keys import load_signer
from truerun.apps.project import Project as OpenedProject
from truerun.apps.project import open_project
from truerun.core.actor import Person, Role
from truerun.core.decision import Answer
from truerun.core.digest import Digest
from truerun.core.fact import LockDecided, LockProposed, PersonAdded, PersonRevoked
from truerun.ledger import merkle
from truerun.ledger.entry import Entry
from truerun.ledger.note import NoteSigner
from truerun.ledger.tree_head import TreeHead, sign_tree_head


def opened(project: Project) -> OpenedProject:
    return open_project(str(project.root / "truerun.toml"))


def entries(project: Project) -> list[Entry]:
    return list(opened(project).ledger.entries())


def proposals(project: Project) -> list[tuple[int, LockProposed]]:
    return [(entry.index, entry.fact) for entry in entries(project) if isinstance(entry.fact, LockProposed)]


def proposal_of(project: Project, which: str) -> int:
    """The entry of the newest proposal, or with `approved` of the first one, which is approved."""
    found = proposals(project)
    return found[0 if which == "approved" else -1][0]


def newest_decision(project: Project) -> Entry:
    return [entry for entry in entries(project) if isinstance(entry.fact, LockDecided)][-1]


def decide(
    project: Project,
    key: str,
    *,
    lock: Digest | None = None,
    proposal: int | None = None,
    origin: str | None = None,
    at: str | None = None,
) -> None:
    """Enter an approval of the newest proposal's lock, signed by *key*, with whatever it should claim wrongly."""
    handle = opened(project)
    index, proposed = proposals(project)[-1]
    fact = LockDecided(
        lock=lock or proposed.lock,
        answer=Answer.APPROVE,
        reason="looked at it",
        origin=origin or handle.ledger.origin,
        proposal=index if proposal is None else proposal,
        at=at or now(),
    )
    handle.ledger.append(fact, load_signer(project.key(key)))


def add_robot(project: Project, name: str, role: str) -> None:
    """The owner adds a robot, as the library allows to write it down."""
    kind, key = Path(project.public_key(name)).read_text().split()[:2]
    person = Person(id=name, name="Nightly checks (made up)", role=Role(role), keys=(f"{kind} {key}",), robot=True)
    opened(project).ledger.append(PersonAdded(person=person, at=now()), load_signer(project.key(OWNER)))


def revoke_key(project: Project, person: str) -> None:
    """The owner revokes all keys of *person*."""
    fact = PersonRevoked(person=person, reason="left the team", at=now())
    opened(project).ledger.append(fact, load_signer(project.key(OWNER)))


def inject(project: Project, envelope: bytes) -> None:
    """Put a signed envelope into the ledger as it is, under a tree head signed with the log's own key."""
    handle = opened(project)
    signer = NoteSigner.parse((project.root / ".truerun" / "log.key").read_text().strip())
    head = handle.ledger.tree_head()
    with handle.ledger._store.writing() as writer:  # noqa: SLF001 (a forger asks nobody)
        frontier = list(writer.hashes(merkle.frontier_places(head.size)))
        hashes = merkle.new_hashes(head.size, merkle.leaf_hash(envelope), frontier)
        first = merkle.stored_count(head.size)
        grown = TreeHead(origin=head.origin, size=head.size + 1, root=merkle.fold(frontier))
        writer.write([(head.size, envelope)], list(enumerate(hashes, first)), sign_tree_head(grown, signer))


def now() -> str:
    return os.environ.get("TRUERUN_AT") or dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
