"""Comparing two locks with all that the stored objects tell: rows by contributor, hunks, declaration keys, and who it was.

Actors: what is recorded is signed, so the proposer made it. A working tree is not signed yet: git says who wrote a
committed line, the contributor column who added rows, the file system who owns a file; weaker in that order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from truerun.adapters import git
from truerun.adapters.config_files import parse_config
from truerun.adapters.files import blake3_of
from truerun.apps.project import Project, read_declaration
from truerun.core.actor import Actor, Basis, Person
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.difference import RowDelta, RowSet, diff_locks, hunks, same
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError, UsageError
from truerun.core.fact import LockProposed
from truerun.core.lock import Lock, LockedData, LockedKey
from truerun.core.rows import diff_rows, parse_rows
from truerun.ledger.history import History, Recorded

MAX_BLAMED = 100
FIRST_ROWS = 8
Fetch = Callable[[Digest], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The changes between two locks; `blobs` are the row lists that they name, to be stored with them."""

    changes: tuple[Change, ...]
    blobs: Mapping[Digest, bytes]


def compare_locks(project: Project, old: Lock | None, new: Lock, fresh: Fetch | None = None) -> Comparison:
    """
    Every change from *old* to *new*; *fresh* gives bytes that are not stored yet.

    Raises InputError when the row lists of a changed data set are not stored any more.
    """

    def fetch(digest: Digest) -> bytes | None:
        found = fresh(digest) if fresh else None
        return found if found is not None or digest not in project.objects else project.objects.read(digest)

    blobs: dict[Digest, bytes] = {}
    deltas: dict[str, RowDelta] = {}
    for name, data in new.data.items():
        before = old.data.get(name) if old else None
        if before and before.row_digests != data.row_digests and before.columns.keys() == data.columns.keys():
            deltas[name] = _row_delta(before, data, fetch, blobs)
    changes = diff_locks(
        old, new, deltas, protected=_protected(old, new, fetch), declarations=_declarations(old, new, fetch) if old else None
    )
    return Comparison(changes=tuple(_with_hunks(change, fetch) for change in changes), blobs=blobs)


def signed_by(project: Project, changes: tuple[Change, ...], person: Person, *, ask_git: bool = True) -> tuple[Change, ...]:
    """
    *changes* as made by *person*, whose signature the entry will carry.

    With *ask_git*, the id (or email address) of the author whom git names is in `detail["git_author"]`. A first lock
    does not ask: it takes over what lies there, whoever wrote it.
    """
    actor = Actor(id=person.id, basis=Basis.SIGNED)
    if not ask_git:
        return tuple(change.attributed(actor) for change in changes)
    names = {other.name: other.id for other in project.people().all()}
    authors = git.Authors(project.root)
    return tuple(
        dataclasses.replace(change, actor=actor, detail={**change.detail, **_git_detail(authors, change, names, position)})
        for position, change in enumerate(changes)
    )


def observed_in_tree(project: Project, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """*changes* of a working tree with the best guess at who made each: git, contributor column, owner of the file."""
    authors = git.Authors(project.root)
    return tuple(
        change.attributed(_observed_actor(project.root, authors, change) if position < MAX_BLAMED else None)
        for position, change in enumerate(changes)
    )


def recorded_by(project: Project, changes: tuple[Change, ...], old: Lock | None, upto: Digest | None) -> tuple[Change, ...]:
    """
    *changes* since *old* with the signers of the proposals, up to that of *upto* (None: the newest), that made them.

    A change counts as made by a proposal that led the same part to the same state; of several, by the newest. Its entries
    are in `detail["entries"]`. What no proposal made is left as it is.
    """
    history, people = project.history(), project.people()
    records = _proposals_between(history, old.digest if old else None, upto)
    made: dict[tuple[object, ...], list[Recorded[LockProposed]]] = {}
    for record in records:
        for change in record.fact.changes:
            made.setdefault(_part(change), []).append(record)
    named = []
    for change in changes:
        found = [record for record in made.get(_part(change), ()) if upto is not None or _same_end(record, change)]
        if found:
            entries = [record.index for record in found]
            detail = {**change.detail, "entries": entries}
            named.append(dataclasses.replace(change, actor=people.actor(found[-1].key, entries[-1]), detail=detail))
        else:
            named.append(change)
    return tuple(named)


def _proposals_between(history: History, old: Digest | None, upto: Digest | None) -> tuple[Recorded[LockProposed], ...]:
    newest = history.latest_proposal()
    target = upto or (newest.fact.lock if newest else None)
    chain = history.chain(old, target) if old is not None and target is not None else None
    if chain is not None:
        return chain
    last = max((record.index for record in history.proposals.get(target, ())), default=-1) if target else -1
    return tuple(record for record in history.all_proposals() if record.index <= last)


def _part(change: Change) -> tuple[object, ...]:
    """What a change is about, whatever was done to it."""
    rows = change.action in (Action.ROWS_ADDED, Action.ROWS_REMOVED)
    return change.kind, change.name, change.key, rows and change.action


def _same_end(record: Recorded[LockProposed], change: Change) -> bool:
    return any(_part(other) == _part(change) and same(other.after, change.after) for other in record.fact.changes)


def _observed_actor(root: Path, authors: git.Authors, change: Change) -> Actor | None:
    author = _git_author(authors, change)
    if author is not None:
        return Actor(id=author.id, basis=Basis.GIT)
    if change.kind is ChangeKind.DATA and change.key and change.action in (Action.ROWS_ADDED, Action.ROWS_REMOVED):
        return Actor(id=change.key, basis=Basis.CONTRIBUTOR)
    if change.path is None:
        return None
    try:
        return Actor(id=pwd.getpwuid(os.stat(root / change.path).st_uid).pw_name, basis=Basis.FILESYSTEM)
    except (OSError, KeyError):
        # The file is gone, or its owner has no name on this machine: nobody is named.
        return None


def _git_detail(authors: git.Authors, change: Change, names: Mapping[str, str], position: int) -> Mapping[str, str]:
    author = _git_author(authors, change) if position < MAX_BLAMED else None
    return {"git_author": names.get(author.name, author.id), "git_commit": author.commit} if author is not None else {}


def _git_author(authors: git.Authors, change: Change) -> git.Author | None:
    if change.path is None or Path(change.path).is_absolute() or change.action is Action.REMOVED:
        return None
    return authors.of_line(change.path, change.line) if change.line is not None else authors.of_path(change.path)


def _row_delta(before: LockedData, after: LockedData, fetch: Fetch, blobs: dict[Digest, bytes]) -> RowDelta:
    lists = []
    for data in (before, after):
        stored = fetch(data.row_digests)
        if stored is None:
            raise InputError(
                f"the row digests of {data.files[0].path} as it was are not stored here",
                got=data.row_digests.short,
                next_step="copy .truerun/objects from where that lock was made",
            )
        lists.append(parse_rows(stored))
    old, new = lists
    moves = diff_rows(old, new)

    def row_sets(groups: Mapping[str, tuple[int, ...]], digests: tuple[str, ...], data: LockedData) -> dict[str, RowSet]:
        sets = {}
        for contributor, numbers in groups.items():
            blob = json.dumps([digests[number] for number in numbers], separators=(",", ":")).encode()
            blobs[blake3_of(blob)] = blob
            sets[contributor] = RowSet(
                count=len(numbers),
                rows=blake3_of(blob),
                first=numbers[:FIRST_ROWS],
                path=file_of_row(data, numbers[0]),
            )
        return sets

    return RowDelta(
        added=row_sets(moves.added, new.digests, after),
        removed=row_sets(moves.removed, old.digests, before),
        reordered=moves.reordered,
    )


def file_of_row(data: LockedData, row: int) -> str | None:
    """The file of *data* that holds *row* (from 0), or None."""
    for file, count in zip(data.files, data.file_rows, strict=False):
        if row < count:
            return file.path
        row -= count
    return None


def _declarations(old: Lock, new: Lock, fetch: Fetch) -> tuple[Mapping[str, LockedKey], Mapping[str, LockedKey]] | None:
    before, after = fetch(old.declaration.digest), fetch(new.declaration.digest)
    if before is None or after is None:
        return None
    return parse_config(before, "truerun.toml"), parse_config(after, "truerun.toml")


def _protected(old: Lock | None, new: Lock, fetch: Fetch) -> tuple[str, ...]:
    """Key patterns protected before or after: nobody lifts a protection and uses the gap in one change."""
    patterns: set[str] = set()
    for lock in (old, new):
        data = fetch(lock.declaration.digest) if lock else None
        if lock is not None and data is None:
            return ("*",)
        if data is not None:
            try:
                patterns.update(read_declaration(data, "truerun.toml").config.protected)
            except (FormatError, UsageError):
                # A declaration written for another release: protect everything rather than guess.
                return ("*",)
    return tuple(sorted(patterns))


def _with_hunks(change: Change, fetch: Fetch) -> Change:
    if change.kind is not ChangeKind.CODE or change.action is not Action.MODIFIED:
        return change
    before, after = fetch(Digest.parse(change.before)), fetch(Digest.parse(change.after))
    if before is None or after is None:
        return change
    lines = hunks(before.decode("utf-8", "replace"), after.decode("utf-8", "replace"))
    return dataclasses.replace(change, line=_first_line(lines), detail={**change.detail, "lines": list(lines)})


def _first_line(headers: tuple[str, ...]) -> int | None:
    """The first new or altered line that *headers* (`@@ -3,2 +3,4 @@`) tell of; None where lines only went."""
    for header in headers:
        start, _, count = header.split("+", 1)[1].split(" ", 1)[0].partition(",")
        if count != "0":
            return int(start)
    return None
