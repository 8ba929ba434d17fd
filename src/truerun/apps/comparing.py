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
from truerun.core.difference import RowDelta, RowSet, diff_locks, hunks
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError, UsageError
from truerun.core.lock import Lock, LockedData, LockedKey
from truerun.core.rows import diff_rows, parse_rows

MAX_BLAMED = 200
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


def signed_by(project: Project, changes: tuple[Change, ...], person: Person) -> tuple[Change, ...]:
    """*changes* as made by *person*, whose signature the entry will carry; where git names another author, in the detail."""
    actor = Actor(id=person.id, basis=Basis.SIGNED)
    return tuple(
        dataclasses.replace(change, actor=actor, detail={**change.detail, **_git_detail(project.root, change, person, position)})
        for position, change in enumerate(changes)
    )


def observed_in_tree(project: Project, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """*changes* of a working tree with the best guess at who made each: git, contributor column, owner of the file."""
    return tuple(
        change.attributed(_observed_actor(project.root, change) if position < MAX_BLAMED else None)
        for position, change in enumerate(changes)
    )


def _observed_actor(root: Path, change: Change) -> Actor | None:
    author = _git_author(root, change)
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


def _git_detail(root: Path, change: Change, person: Person, position: int) -> Mapping[str, str]:
    author = _git_author(root, change) if position < MAX_BLAMED else None
    if author is None or author.name == person.name:
        return {}
    return {"git_author": author.id, "git_commit": author.commit}


def _git_author(root: Path, change: Change) -> git.Author | None:
    if change.path is None or Path(change.path).is_absolute():
        return None
    if change.line is not None and change.action is not Action.REMOVED:
        return git.line_author(root, change.path, change.line)
    return git.path_author(root, change.path) if change.action is not Action.REMOVED else None


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
    first = _first_line(lines)
    return dataclasses.replace(change, line=first, detail={**change.detail, "lines": list(lines)})


def _first_line(headers: tuple[str, ...]) -> int | None:
    """The first line of the new file that the first of *headers* (`@@ -3,2 +3,4 @@`) is about."""
    if not headers:
        return None
    return max(1, int(headers[0].split("+", 1)[1].split(" ", 1)[0].split(",", 1)[0]))
