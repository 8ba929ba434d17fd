"""The candidates of an attribution: every change between the reference's lock and the run's, in order, and how it is applied.

The unit is what one person did to one thing in one lock: a configuration key, the rows one contributor added or removed, a
code file, a checkpoint, an environment variable, the command line. Installed packages cannot be rebuilt beside each other,
so they are candidates that only elimination judges. Pure; `adapters/workspace.py` applies them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.digest import Digest
from truerun.core.lock import Lock

Subset = frozenset[int]
VARIABLES = "environ"  # the name of changes to environment variables, as core/difference.py gives it
COMMAND = "command"


class Lever(enum.Enum):
    """How a change is applied to a rebuilt project; `CANNOT` is judged by elimination alone, `INERT` needs no trial."""

    KEY = "key"
    ROWS = "rows"
    TABLE = "table"
    FILE = "file"
    VARIABLE = "variable"
    COMMAND = "command"
    CANNOT = "cannot"
    INERT = "inert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The changes that led from lock `before` to lock `after`, and the ledger entry that records them (None: unrecorded)."""

    entry: int | None
    before: Digest
    after: Digest
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    One change that may be the cause.

    `position` counts from 0 in order of history; `needs` are earlier positions without which it does not apply; `why` says
    in words why a candidate is not tried.
    """

    position: int
    change: Change
    entry: int | None
    before: Digest
    after: Digest
    lever: Lever
    needs: Subset = frozenset()
    why: str | None = None

    @property
    def applies(self) -> bool:
        """Whether reruns with and without it are possible."""
        return self.lever not in (Lever.CANNOT, Lever.INERT)


def candidates_of(
    links: Sequence[Link], locks: Mapping[Digest, Lock], *, commands: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[Candidate, ...]:
    """
    Every change in *links*, which must be in order; *locks* holds each link's `before` and `after`.

    *commands* are the command lines of the reference and the run; where they differ that is a candidate too.
    """
    found: list[Candidate] = []
    for link in links:
        for change in link.changes:
            lever, why = _lever(change, locks[link.before], locks[link.after])
            found.append(
                Candidate(
                    position=len(found),
                    change=change,
                    entry=link.entry,
                    before=link.before,
                    after=link.after,
                    lever=lever,
                    needs=_needs(change, lever, found),
                    why=why,
                )
            )
    if commands and links and tuple(commands[0]) != tuple(commands[1]):
        found.append(_command(commands, len(found), links[-1]))
    return tuple(found)


def closure(candidates: Sequence[Candidate], subset: Iterable[int]) -> Subset:
    """*subset* with everything its members need."""
    result: set[int] = set()
    waiting = list(subset)
    while waiting:
        position = waiting.pop()
        if position not in result:
            result.add(position)
            waiting.extend(candidates[position].needs)
    return frozenset(result)


def independent(candidate: Candidate, needs: Subset) -> Candidate:
    """The same candidate after a trial showed that it needs only *needs*."""
    return replace(candidate, needs=needs)


def _lever(change: Change, before: Lock, after: Lock) -> tuple[Lever, str | None]:
    if change.action is Action.FORMATTED:
        return Lever.INERT, "only formatting changed; the values are the same"
    match change.kind:
        case ChangeKind.DECLARATION:
            return Lever.INERT, "the declaration is read by Truerun, not by the training"
        case ChangeKind.ENVIRONMENT:
            return _environment_lever(change)
        case ChangeKind.CONFIG:
            return (Lever.KEY if change.key is not None else Lever.FILE), None
        case ChangeKind.CODE:
            return Lever.FILE, None
        case ChangeKind.CHECKPOINT:
            return _inside(Lever.FILE, change.name)
        case ChangeKind.DATA:
            return _data_lever(change, before, after)


def _environment_lever(change: Change) -> tuple[Lever, str | None]:
    if change.name != VARIABLES:
        return Lever.CANNOT, "installed packages cannot be swapped for a rerun; judged by elimination only"
    if any(isinstance(value, str) and value.startswith("sha256:") for value in (change.before, change.after)):
        return Lever.CANNOT, "the value of a secret is not recorded; judged by elimination only"
    return Lever.VARIABLE, None


def _data_lever(change: Change, before: Lock, after: Lock) -> tuple[Lever, str | None]:
    paths = [file.path for lock in (before, after) if change.name in lock.data for file in lock.data[change.name].files]
    if change.action in (Action.ROWS_ADDED, Action.ROWS_REMOVED):
        return _inside(Lever.ROWS, *paths)
    if change.detail.get("what") == "column":
        return Lever.INERT, "a column's type follows from its rows, which are tried themselves"
    return _inside(Lever.TABLE, *paths)


def _inside(lever: Lever, *paths: str) -> tuple[Lever, str | None]:
    if any(path.startswith("/") or ".." in path.split("/") for path in paths):
        return Lever.CANNOT, "it lies outside the project, where a rerun cannot be given another version"
    return lever, None


def _needs(change: Change, lever: Lever, earlier: Sequence[Candidate]) -> Subset:
    """Earlier changes of the same thing that this one builds on."""
    related = [item for item in earlier if item.applies and (item.change.kind, item.change.name) == (change.kind, change.name)]
    match lever:
        case Lever.FILE if change.kind is ChangeKind.CODE:
            return frozenset(item.position for item in related)
        case Lever.KEY:
            return frozenset(item.position for item in related if item.lever is Lever.FILE)
        case Lever.TABLE:
            return frozenset(item.position for item in related)
        case Lever.ROWS:
            tables = [item for item in related if item.lever is Lever.TABLE and _replaces(item.change)]
            return frozenset(item.position for item in tables)
        case _:
            return frozenset()


def _replaces(change: Change) -> bool:
    return change.detail.get("what") != "order of rows"


def _command(commands: tuple[Sequence[str], Sequence[str]], position: int, last: Link) -> Candidate:
    change = Change(
        kind=ChangeKind.DECLARATION,
        action=Action.MODIFIED,
        name=COMMAND,
        before=" ".join(commands[0]),
        after=" ".join(commands[1]),
    )
    return Candidate(position=position, change=change, entry=None, before=last.after, after=last.after, lever=Lever.COMMAND)
