"""The difference between two locks as a list of changes, each small enough to be approved, tried out and attributed alone.

Pure: what only bytes can tell (rows, hunks, declaration keys) is handed in. Says what differs, never who did it or why.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from truerun.core.canonical import render_canonical
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.codec import to_json
from truerun.core.digest import Digest
from truerun.core.lock import Lock, LockedConfig, LockedData, LockedFile, LockedKey

MAX_HUNKS = 50
MAX_HUNK_LINES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """
    Rows of one contributor that were added or removed.

    `rows` is the digest of a stored JSON list of their row digests, in order and with repetition; `first` are the first
    few row numbers (from 0) in the data set that holds them, `path` the file of the first one.
    """

    count: int
    rows: Digest
    first: tuple[int, ...] = ()
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDelta:
    """
    How the rows of one data set differ, by contributor (the empty text: nobody named). `reordered`: same rows, new order.

    Row digests name columns, so that rows compare only between equal sets of columns.
    """

    added: Mapping[str, RowSet] = field(default_factory=dict)
    removed: Mapping[str, RowSet] = field(default_factory=dict)
    reordered: bool = False


def diff_locks(
    old: Lock | None,
    new: Lock,
    rows: Mapping[str, RowDelta],
    *,
    protected: Sequence[str] = ("*",),
    declarations: tuple[Mapping[str, LockedKey], Mapping[str, LockedKey]] | None = None,
) -> tuple[Change, ...]:
    """
    The changes that lead from *old* (None: nothing) to *new*.

    *rows* holds the delta of every data set whose row digests differ; *protected* are patterns of configuration keys;
    *declarations* are the keys of both `truerun.toml`, else a changed one is a single change.
    """
    changes = [
        *_diff_declaration(old, new, declarations),
        *_diff_configs(old, new, protected),
        *_diff_data_sets(old, new, rows),
        *_diff_files(ChangeKind.CODE, old.code if old else {}, new.code),
        *_diff_files(ChangeKind.CHECKPOINT, old.checkpoints if old else {}, new.checkpoints),
        *_diff_environment(old, new),
    ]
    return tuple(changes)


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are one value: 1 and 1.0 are, 1 and true are not."""
    return render_canonical(a) == render_canonical(b)


def diff_keys(
    old: Mapping[str, LockedKey], new: Mapping[str, LockedKey]
) -> Iterator[tuple[str, LockedKey | None, LockedKey | None]]:
    """The keys whose values differ, in the order of *new*, then the removed ones."""
    for key, value in new.items():
        before = old.get(key)
        if before is None or not same(before.value, value.value):
            yield key, before, value
    for key, before in old.items():
        if key not in new:
            yield key, before, None


def is_protected(key: str, patterns: Sequence[str]) -> bool:
    """Whether any of *patterns* (`*`, `optimizer.*`) matches *key*."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def hunks(before: str, after: str) -> tuple[str, ...]:
    """The headers of the unified diff (`@@ -3,2 +3,4 @@`), at most 50; for texts too long to compare, one that says so."""
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > MAX_HUNK_LINES:
        return (f"@@ -1,{len(old)} +1,{len(new)} @@",)
    headers = [line for line in difflib.unified_diff(old, new, n=0, lineterm="") if line.startswith("@@")]
    return tuple(headers[:MAX_HUNKS])


def _change(kind: ChangeKind, name: str, before: Any, after: Any, **rest: Any) -> Change:
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.MODIFIED
    return Change(kind=kind, action=rest.pop("action", action), name=name, before=before, after=after, **rest)


def _key_change(kind: ChangeKind, name: str, item: tuple[str, LockedKey | None, LockedKey | None], guarded: bool) -> Change:
    key, before, after = item
    # A key that was null is not a key that was absent, so the action looks at presence, not at values.
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.MODIFIED
    return Change(
        kind=kind,
        action=action,
        name=name,
        key=key,
        before=before.value if before else None,
        after=after.value if after else None,
        path=name,
        line=after.line if after else before.line if before else None,
        protected=guarded,
    )


def _formatted(kind: ChangeKind, before: LockedFile, after: LockedFile) -> Change:
    return _change(
        kind,
        after.path,
        before.digest.render(),
        after.digest.render(),
        action=Action.FORMATTED,
        path=after.path,
        protected=False,
    )


def _diff_declaration(
    old: Lock | None, new: Lock, declarations: tuple[Mapping[str, LockedKey], Mapping[str, LockedKey]] | None
) -> Iterator[Change]:
    kind, name = ChangeKind.DECLARATION, new.declaration.path
    if old is None:
        yield _change(kind, name, None, new.declaration.digest.render(), path=name)
    elif old.declaration.digest == new.declaration.digest:
        return
    elif declarations is None:
        yield _change(kind, name, old.declaration.digest.render(), new.declaration.digest.render(), path=name)
    else:
        changed = [_key_change(kind, name, item, guarded=True) for item in diff_keys(*declarations)]
        yield from changed or [_formatted(kind, old.declaration, new.declaration)]


def _diff_configs(old: Lock | None, new: Lock, protected: Sequence[str]) -> Iterator[Change]:
    before_all: Mapping[str, LockedConfig] = old.config if old else {}
    for name in sorted({*before_all, *new.config}):
        before, after = before_all.get(name), new.config.get(name)
        if before is None or after is None:
            yield _change(
                ChangeKind.CONFIG,
                name,
                before.file.digest.render() if before else None,
                after.file.digest.render() if after else None,
                path=name,
                detail={"keys": len((after or before).keys)} if (after or before) else {},  # type: ignore[union-attr]
            )
        elif before.file.digest != after.file.digest:
            changed = [
                _key_change(ChangeKind.CONFIG, name, item, guarded=is_protected(item[0], protected))
                for item in diff_keys(before.keys, after.keys)
            ]
            yield from changed or [_formatted(ChangeKind.CONFIG, before.file, after.file)]


def _diff_data_sets(old: Lock | None, new: Lock, rows: Mapping[str, RowDelta]) -> Iterator[Change]:
    before_all: Mapping[str, LockedData] = old.data if old else {}
    for name in sorted({*before_all, *new.data}):
        before, after = before_all.get(name), new.data.get(name)
        if before is None or after is None:
            one = after or before
            assert one is not None
            yield _change(
                ChangeKind.DATA,
                name,
                _summary(before) if before else None,
                _summary(after) if after else None,
                path=one.files[0].path if one.files else None,
                detail={"contributors": dict(one.contributors)},
            )
        else:
            yield from _diff_data(name, before, after, rows.get(name, RowDelta()))


def _diff_data(name: str, before: LockedData, after: LockedData, delta: RowDelta) -> Iterator[Change]:
    kind, path = ChangeKind.DATA, after.files[0].path if after.files else None
    for column in sorted({*before.columns, *after.columns}):
        old_type, new_type = before.columns.get(column), after.columns.get(column)
        if old_type != new_type:
            yield _change(kind, name, old_type, new_type, key=column, path=path, detail={"what": "column"})
    if before.columns.keys() != after.columns.keys():
        # Rows of different columns cannot be told apart one by one: the data set is replaced as a whole.
        detail = {"what": "columns", "contributors_before": dict(before.contributors), "contributors": dict(after.contributors)}
        yield _change(kind, name, _summary(before), _summary(after), path=path, detail=detail)
        return
    if before.row_digests == after.row_digests:
        if before.files != after.files:
            yield _change(kind, name, _summary(before), _summary(after), action=Action.FORMATTED, path=path, protected=False)
        return
    yield from _row_changes(name, Action.ROWS_ADDED, delta.added, path)
    yield from _row_changes(name, Action.ROWS_REMOVED, delta.removed, path)
    if delta.reordered or not (delta.added or delta.removed):
        yield _change(kind, name, _summary(before), _summary(after), path=path, detail={"what": "order of rows"})


def _row_changes(name: str, action: Action, sets: Mapping[str, RowSet], path: str | None) -> Iterator[Change]:
    for contributor, rows in sorted(sets.items()):
        value = {"count": rows.count, "rows": rows.rows.render()}
        added = action is Action.ROWS_ADDED
        yield Change(
            kind=ChangeKind.DATA,
            action=action,
            name=name,
            key=contributor or None,
            before=None if added else value,
            after=value if added else None,
            path=rows.path or path,
            detail={"contributor": contributor or None, "first_rows": list(rows.first)},
        )


def _summary(data: LockedData) -> Mapping[str, Any]:
    return {"rows": data.rows, "row_digests": data.row_digests.render(), "files": [to_json(file) for file in data.files]}


def _diff_files(kind: ChangeKind, old: Mapping[str, LockedFile], new: Mapping[str, LockedFile]) -> Iterator[Change]:
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if (before and before.digest) != (after and after.digest):
            yield _change(
                kind, path, before.digest.render() if before else None, after.digest.render() if after else None, path=path
            )


def _diff_environment(old: Lock | None, new: Lock) -> Iterator[Change]:
    kind, after = ChangeKind.ENVIRONMENT, new.environment
    if old is None:
        yield _change(kind, "python", None, after.python, detail={"packages": len(after.packages)})
        for name, digest in sorted(after.startup.items()):
            yield _change(kind, name, None, digest.render(), key="startup")
        return
    before = old.environment
    if before.python != after.python:
        yield _change(kind, "python", before.python, after.python)
    for name in sorted({*before.packages, *after.packages}):
        old_package, new_package = before.packages.get(name), after.packages.get(name)
        if old_package is None or new_package is None or old_package.version != new_package.version:
            yield _change(kind, name, old_package and old_package.version, new_package and new_package.version)
        elif old_package.record != new_package.record:
            yield _change(
                kind,
                name,
                old_package.record and old_package.record.render(),
                new_package.record and new_package.record.render(),
                key="RECORD",
            )
    for name in sorted({*before.startup, *after.startup}):
        old_file, new_file = before.startup.get(name), after.startup.get(name)
        if old_file != new_file:
            yield _change(kind, name, old_file and old_file.render(), new_file and new_file.render(), key="startup")
    for name in sorted({*before.variables, *after.variables}):
        old_value, new_value = before.variables.get(name), after.variables.get(name)
        if old_value != new_value:
            yield _change(kind, "environ", old_value, new_value, key=name, protected=not _are_digests(old_value, new_value))


def _are_digests(*values: str | None) -> bool:
    """Whether *values* are secrets recorded as digests: people have keys of their own, and the code that reads them is locked."""
    return all(value is None or value.startswith("sha256:") for value in values)
