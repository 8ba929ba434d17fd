"""Proposing a lock in the ledger, with everything from which it can be rebuilt, and asking the policy about it.

Order of `record_lock`: objects, ledger, `truerun.lock`; cut short anywhere, running it again completes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from truerun.adapters import git
from truerun.apps.comparing import Comparison, compare_locks, observed_in_tree, signed_by
from truerun.apps.project import Project
from truerun.apps.resolving import MAX_CODE_BYTES, Resolved, resolve
from truerun.core.canonical import render_canonical
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.codec import to_json
from truerun.core.decision import Decision
from truerun.core.digest import Digest, digest_bytes, digest_value
from truerun.core.errors import PolicyError, TruerunError
from truerun.core.fact import LockProposed
from truerun.core.lock import Lock
from truerun.ledger.entry import Entry
from truerun.ledger.signing import Signer
from truerun.oversight.admission import approved_lock, decide_admission

__all__ = [
    "MAX_CODE_BYTES",
    "Recorded",
    "Resolved",
    "compare",
    "decide",
    "record_lock",
    "resolve",
    "store",
    "summed_up",
]

MAX_RECORDED = 2000
MAX_RECORDED_VALUE = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What `record_lock` did: `entry` is None when this lock is the newest proposal already."""

    lock: Lock
    changes: tuple[Change, ...]
    entry: Entry | None


def store(project: Project, resolved: Resolved, extra: Mapping[Digest, bytes] | None = None) -> None:
    """Keep everything from which this state can be rebuilt; raises StorageError."""
    lock = {resolved.lock.digest: render_canonical(to_json(resolved.lock))}
    project.objects.put_all({**resolved.blobs, **(extra or {}), **lock}.items(), resolved.files.items())
    project.cache.flush()


def compare(project: Project, old: Lock | None, resolved: Resolved) -> Comparison:
    """The changes from *old* to the tree, with the best guess at who made each."""
    comparison = compare_locks(project, old, resolved.lock, resolved.fetch)
    return Comparison(changes=observed_in_tree(project, comparison.changes), blobs=comparison.blobs)


def summed_up(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """
    *changes* as an entry can hold them: of more than 2,000 of one kind the rest is one change, of a long value its digest.

    Nothing is lost by it: both locks are stored, and whoever judges or traces compares them anew.
    """
    kept: list[Change] = []
    for kind in ChangeKind:
        group = [_shortened(change) for change in changes if change.kind is kind]
        kept += group[:MAX_RECORDED]
        if len(group) > MAX_RECORDED:
            rest = group[MAX_RECORDED:]
            detail = {"what": f"{len(rest)} more changes of this kind", "first": rest[0].name, "last": rest[-1].name}
            ids = digest_value([change.id for change in rest]).render()
            kept.append(
                Change(kind=kind, action=Action.MODIFIED, name=f"{len(rest)} more", after=ids, actor=rest[0].actor, detail=detail)
            )
    return tuple(kept)


def _shortened(change: Change) -> Change:
    return dataclasses.replace(change, before=_short(change.before), after=_short(change.after))


def _short(value: Any) -> Any:
    data = render_canonical(to_json(value))
    return value if len(data) <= MAX_RECORDED_VALUE else {"digest": digest_bytes(data).render()}


def record_lock(project: Project, resolved: Resolved, signer: Signer, note: str = "") -> Recorded:
    """
    Propose *resolved* in the name of *signer*: store its objects, record LockProposed, write `truerun.lock`.

    Raises PolicyError when the key belongs to nobody in the project. Every change carries the proposer as its actor.
    """
    person = project.people().resolve(signer.public_key)
    if person is None:
        raise PolicyError(
            "this key belongs to nobody in the project",
            got=signer.public_key[:60],
            next_step="an owner or maintainer adds you: truerun people add ID --key-file YOUR.pub --role engineer",
        )
    proposal = project.newest_proposal()
    if proposal is not None and proposal.fact.lock == resolved.lock.digest:
        store(project, resolved)
        project.save_lock(resolved.lock)
        return Recorded(lock=resolved.lock, changes=(), entry=None)
    parent = project.lock(proposal.fact.lock) if proposal is not None else None
    comparison = compare_locks(project, parent, resolved.lock, resolved.fetch)
    changes = signed_by(project, comparison.changes, person, ask_git=parent is not None)
    store(project, resolved, comparison.blobs)
    fact = LockProposed(
        lock=resolved.lock.digest,
        changes=summed_up(changes),
        at=project.clock(),
        parent=parent.digest if parent else None,
        commit=git.current_commit(project.root),
        note=note,
    )
    entry = project.ledger.append(fact, signer)
    project.save_lock(resolved.lock)
    return Recorded(lock=resolved.lock, changes=changes, entry=entry)


def decide(project: Project, resolved: Resolved) -> Decision:
    """What the policy says about this state: allowed, or which approvals are missing and who can give them."""
    history, people = project.history(), project.people()
    approved = approved_lock(history, people)
    try:
        changes = compare_locks(project, project.lock(approved), resolved.lock, resolved.fetch).changes if approved else None
    except TruerunError:
        # The approved lock is not stored here, or not as it was: nothing can be shown to be unprotected, so everything counts.
        changes = None
    return decide_admission(resolved.lock, history, people, lock_of=project.lock, changes=changes)
