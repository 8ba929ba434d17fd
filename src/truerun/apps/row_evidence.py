"""The rows of a data change beside the reference's rows: reads both from the object store and asks `attribution/sources.py`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from truerun.adapters.objects import ObjectStore
from truerun.adapters.rebuilt_rows import RowStore, Version
from truerun.attribution.sources import Rows, rank_rows
from truerun.core.attribution import RowSuspect, SourceSuspect
from truerun.core.change import Change
from truerun.core.lock import Lock, LockedData


def look_at(objects: ObjectStore, change: Change, reference: Lock, run: Lock) -> tuple[SourceSuspect, tuple[RowSuspect, ...]]:
    """Which of the rows that *change* added look wrong; row numbers are those of the data set as the *run* used it."""
    data = run.data[change.name]
    with tempfile.TemporaryDirectory(prefix="truerun-rows-") as scratch:
        store = RowStore(objects, Path(scratch))
        newest = store.version(data)
        known = store.version(reference.data[change.name]) if change.name in reference.data else newest
        numbers = numbers_of(newest, store.listed(change.after))
        every = list(range(len(known.digests)))
        return rank_rows(change.name, change.key, _rows(known, every, data), _rows(newest, numbers, data))


def quarantine_table(
    objects: ObjectStore, lock: Lock, name: str, changes: Sequence[Change], suspects: Sequence[RowSuspect]
) -> pl.DataFrame:
    """
    The rows that *changes* added to data set *name*, as *lock* has them.

    Three columns more: `truerun_row` (row number in that lock), `truerun_change` (the change's id) and `truerun_reason`
    (what looks wrong about the row, or that it came with the change).
    """
    with tempfile.TemporaryDirectory(prefix="truerun-rows-") as scratch:
        store = RowStore(objects, Path(scratch))
        version = store.version(lock.data[name])
        reasons = {(row.data, row.row): row.reason for row in suspects}
        parts = []
        for change in changes:
            numbers = numbers_of(version, store.listed(change.after))
            said = [reasons.get((name, number), f"added by {change.title()}") for number in numbers]
            extra = {"truerun_row": numbers, "truerun_change": [change.id] * len(numbers), "truerun_reason": said}
            parts.append(version.frame[numbers].with_columns(pl.Series(key, value) for key, value in extra.items()))
        return pl.concat(parts)


def numbers_of(version: Version, digests: Sequence[str]) -> list[int]:
    """The row numbers in *version* of the rows named by *digests*, the last ones of equal rows."""
    wanted = Counter(digests)
    found = []
    for row in range(len(version.digests) - 1, -1, -1):
        if wanted.get(version.digests[row], 0) > 0:
            wanted[version.digests[row]] -= 1
            found.append(row)
    return found[::-1]


def _rows(version: Version, numbers: Sequence[int], data: LockedData) -> Rows:
    frame = version.frame[list(numbers)]
    aside = {data.label, data.contributor, data.id}
    columns = {
        column.name: column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)
        for column in frame.iter_columns()
        if column.name not in aside and (column.dtype.is_numeric() or column.dtype == pl.Boolean)
    }
    labels = frame[data.label].to_list() if data.label and data.label in frame.columns else None
    return Rows(columns=columns, labels=labels, numbers=list(numbers))
