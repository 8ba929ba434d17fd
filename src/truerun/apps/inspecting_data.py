"""Reading what the data rules need: the rows now, the approved rows from the object store, and which of them are new."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from truerun.adapters.files import hash_file
from truerun.adapters.tables import load_table
from truerun.apps.locking import Resolved
from truerun.apps.project import Project
from truerun.core.change import Change, ChangeKind
from truerun.core.codec import from_json, to_json
from truerun.core.digest import Digest, digest_value
from truerun.core.errors import InputError
from truerun.core.finding import Finding
from truerun.core.lock import LockedData
from truerun.core.rows import diff_rows, parse_rows
from truerun.inspection.data.data_schema import check_schema
from truerun.inspection.data.growth import Growth
from truerun.inspection.data.rules import check_growth
from truerun.inspection.reference import Reference

# Part of the key under which findings are remembered: raise it when a data rule changes.
RULES_VERSION = 2


def inspect_data(
    project: Project,
    resolved: Resolved,
    reference: Reference,
    changes: Sequence[Change],
    progress: Callable[[str], None],
) -> tuple[Finding, ...]:
    """Every finding about data sets that changed since *reference*; raises InputError for what cannot be read."""
    findings: list[Finding] = []
    for name, now in resolved.lock.data.items():
        before = reference.lock.data.get(name)
        changed = [change for change in changes if change.kind is ChangeKind.DATA and change.name == name]
        if before is None or not changed or (before.row_digests == now.row_digests and before.columns == now.columns):
            continue
        progress(f"data: {name}")
        findings += _remembered(project, resolved, reference, name=name, before=before, now=now)
    return tuple(findings)


def _remembered(
    project: Project, resolved: Resolved, reference: Reference, *, name: str, before: LockedData, now: LockedData
) -> list[Finding]:
    """The findings about one data set, from the cache where the same rows were judged against the same reference before."""
    parts = [RULES_VERSION, name, to_json(before), to_json(now), reference.since]
    key = "data-rules:" + digest_value(parts).value
    known = project.cache.recall(key)
    if known is not None:
        return [from_json(Finding, item) for item in json.loads(known)]
    findings = list(_judge(project, resolved, reference, name=name, before=before, now=now))
    project.cache.remember(key, json.dumps([to_json(finding) for finding in findings]))
    project.cache.flush()
    return findings


def _judge(
    project: Project, resolved: Resolved, reference: Reference, *, name: str, before: LockedData, now: LockedData
) -> tuple[Finding, ...]:
    def fetch(digest: Digest) -> bytes:
        found = resolved.fetch(digest)
        return found if found is not None else project.objects.read(digest)

    moves = diff_rows(parse_rows(fetch(before.row_digests)), parse_rows(fetch(now.row_digests)))
    frame, _ = load_table([project.root / file.path for file in now.files], name)
    growth = Growth(
        name=name,
        path=now.files[0].path if len(now.files) == 1 else None,
        now=frame,
        approved=_load_approved(project, name, before),
        added={who: np.array(rows, np.int64) for who, rows in moves.added.items()},
        removed=np.array([row for rows in moves.removed.values() for row in rows], np.int64),
        reference=reference,
        label=now.label,
        contributor=now.contributor,
        id=now.id,
        seed=int(now.row_digests.value[:8], 16),
    )
    try:
        # Rows of other columns cannot be compared one by one; the schema has to be settled first.
        return check_schema(growth) or check_growth(growth)
    except pl.exceptions.PolarsError as error:
        # A type of column that a rule did not foresee must not look like "no findings", nor stop a run.
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{name}: its new rows cannot be judged: {first}", next_step="report this as a bug of Truerun"
        ) from error


def _load_approved(project: Project, name: str, before: LockedData) -> Any:
    """The approved rows, from the stored files; raises InputError when they were too large to be kept."""
    missing = [file.path for file in before.files if file.digest not in project.objects]
    if missing:
        raise InputError(
            f"{name}: the approved {missing[0]} is not stored here, so its rows cannot be compared with",
            next_step="raise TRUERUN_KEEP_BYTES before the next lock, or copy .truerun/objects from where it was locked",
        )
    with tempfile.TemporaryDirectory(prefix="truerun-") as folder:
        links = []
        for number, file in enumerate(before.files):
            # Tables are told apart by their suffix, which an object does not have.
            link = Path(folder) / f"{number:06}{Path(file.path).suffix}"
            os.symlink(project.objects.path(file.digest), link)
            if hash_file(link) != file.digest:
                raise InputError(f"{name}: the stored copy of {file.path} is damaged", next_step="restore .truerun/objects")
            links.append(link)
        return load_table(links, name)[0]
