"""A data set rebuilt with some of its changes: the reference's rows, minus rows removed, plus rows added, from stored files.

Rows are named by their digests (`core/rows.py`), so that duplicates count and formats do not matter. Order is the same for the
same subset: the reference's rows in their order, then added rows in the order of the newest lock that has them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from truerun.adapters.objects import ObjectStore
from truerun.adapters.tables import load_table
from truerun.attribution.candidates import Candidate, Lever
from truerun.core.change import Action
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError
from truerun.core.lock import LockedData
from truerun.core.rows import parse_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One stored version of a data set: a digest per row, the frame, and the file of each row."""

    digests: tuple[str, ...]
    frame: pl.DataFrame
    paths: tuple[str, ...]


class RowStore:
    """Reads stored versions once and writes mixtures of them. *scratch* holds links to objects under readable names."""

    def __init__(self, objects: ObjectStore, scratch: Path) -> None:
        self._objects = objects
        self._scratch = scratch
        self._versions: dict[str, Version] = {}

    def version(self, data: LockedData) -> Version:
        """The rows of *data* as locked; raises InputError when its files are not stored any more."""
        key = "/".join(f"{file.path}:{file.digest.value}" for file in data.files)
        if key not in self._versions:
            frame, counts = load_table([self._readable(file.path, file.digest) for file in data.files])
            digests = parse_rows(self._objects.read(data.row_digests)).digests
            if len(digests) != frame.height:
                raise FormatError("a row list that does not fit its files", got=len(digests), expected=frame.height)
            paths = tuple(file.path for file, count in zip(data.files, counts, strict=True) for _ in range(count))
            self._versions[key] = Version(digests=digests, frame=frame, paths=paths)
        return self._versions[key]

    def _readable(self, path: str, digest: Digest) -> Path:
        """The stored file under a name with its suffix, by which its format is known."""
        target = self._scratch / f"{digest.value}{PurePosixPath(path).suffix.lower()}"
        if not target.exists():
            if digest not in self._objects:
                raise InputError(
                    f"{path} as it was locked is not stored here", next_step="restore .truerun/objects from a backup"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._objects.path(digest), target)
            except OSError:  # another file system: a copy does as well
                shutil.copyfile(self._objects.path(digest), target)
        return target

    def listed(self, change_value: Mapping[str, object]) -> tuple[str, ...]:
        """The row digests that a rows-added or rows-removed change names."""
        stored = json.loads(self._objects.read(Digest.parse(str(change_value["rows"]))))
        if not isinstance(stored, list):
            raise FormatError("not a list of row digests", got=type(stored).__name__)
        return tuple(map(str, stored))

    def write(
        self,
        target: Path,
        reference: LockedData | None,
        newest: LockedData,
        applied: Sequence[Candidate],
        history: Mapping[Digest, LockedData],
    ) -> None:
        """Write the data set with the *applied* changes below the folder *target*; *history* has the versions by lock."""
        start, wanted = self._wanted(reference, applied, history)
        order = [start, self.version(newest), *(self.version(data) for data in reversed(list(history.values())))]
        picked = _pick([version for version in order if version is not None], wanted, start)
        _write_files(target, picked, start)

    def _wanted(
        self, reference: LockedData | None, applied: Sequence[Candidate], history: Mapping[Digest, LockedData]
    ) -> tuple[Version | None, Counter[str]]:
        start = self.version(reference) if reference is not None else None
        wanted = Counter(start.digests if start else ())
        for candidate in applied:
            change = candidate.change
            if candidate.lever is Lever.TABLE:
                start = self.version(history[candidate.after])
                wanted = Counter(start.digests)
            elif change.action is Action.ROWS_ADDED:
                wanted.update(self.listed(change.after))
            else:
                wanted.subtract(self.listed(change.before))
                wanted = +wanted
        return start, wanted


def _pick(versions: Sequence[Version], wanted: Counter[str], start: Version | None) -> list[tuple[Version, list[int]]]:
    """Row numbers by version: the first version keeps its first occurrences, later ones give what is still missing."""
    missing = Counter(wanted)
    picked: list[tuple[Version, list[int]]] = []
    for version in versions:
        rows = list(range(len(version.digests)))
        chosen = []
        # Of equal rows the last ones count as added, so that what is added is looked for from the end.
        for row in rows if version is start else reversed(rows):
            if missing.get(version.digests[row], 0) > 0:
                missing[version.digests[row]] -= 1
                chosen.append(row)
        if chosen:
            picked.append((version, sorted(chosen)))
    left = sum((+missing).values())
    if left:
        raise InputError(f"{left} rows of a recorded change are in no stored version of the data set")
    return picked


def _write_files(target: Path, picked: Sequence[tuple[Version, list[int]]], start: Version | None) -> None:
    parts: dict[str, list[pl.DataFrame]] = {}
    for version, rows in picked:
        grouped: dict[str, list[int]] = {}
        for row in rows:
            grouped.setdefault(version.paths[row], []).append(row)
        for path, numbers in grouped.items():
            parts.setdefault(path, []).append(version.frame[numbers])
    for path, frames in parts.items():
        columns = frames[0].columns
        frame = pl.concat([item.select(columns) for item in frames], how="vertical_relaxed")
        _write_table(_narrowed(frame, start.frame.schema if start else frame.schema), target / path)


def _narrowed(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """*frame* with the column types of the reference wherever its values allow."""
    result = []
    for column in frame.iter_columns():
        kind = schema.get(column.name)
        narrowed = column if kind is None or kind == column.dtype else column.cast(kind, strict=False)
        exact = narrowed is column or narrowed.cast(column.dtype, strict=False).equals(column, null_equal=True)
        result.append(narrowed if exact else column)
    return pl.DataFrame(result)


def _write_table(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix.lower():
        case ".parquet" | ".pq":
            frame.write_parquet(path)
        case ".csv" | ".tsv":
            frame.write_csv(path, separator="\t" if path.suffix.lower() == ".tsv" else ",")
        case _:
            frame.write_ndjson(path)
