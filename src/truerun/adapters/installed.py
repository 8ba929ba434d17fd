"""Installed files against their own RECORD, each read once: what has not changed since is answered by the stat cache.

Judges nothing: says which files differ, and how. A file that RECORD lists without a hash is not read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import pwd
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from truerun.adapters.packages import Distribution, RecordEntry, record_entries
from truerun.adapters.statcache import StatCache, identity
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError
from truerun.inspection.environment.package_modified import ModifiedFile

_CHUNK = 1 << 20
_BATCH = 64
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})
_Compared: TypeAlias = tuple[RecordEntry, os.stat_result | None, str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """
    What looking at the installed distributions came to.

    `compared` counts files. `covered` maps start-up files (`.pth`, sitecustomize, usercustomize) that a RECORD lists to
    their distribution, algorithm and hash, whether or not they still have that hash.
    """

    modified: tuple[ModifiedFile, ...]
    compared: int
    covered: Mapping[str, tuple[str, str, str]]


def inspect_installed(
    distributions: Iterable[Distribution],
    wanted: Container[str],
    cache: StatCache | None,
    progress: Callable[[str], None] | None = None,
) -> Installed:
    """Compare the files of the *wanted* distributions with RECORD; *progress* is told each one's name."""
    modified: list[ModifiedFile] = []
    covered: dict[str, tuple[str, str, str]] = {}
    compared = 0
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for distribution in distributions:
            entries = list(_hashed_entries(distribution, modified))
            for entry in entries:
                if entry.path.suffix == ".pth" or entry.path.stem in ("sitecustomize", "usercustomize"):
                    covered[str(entry.path)] = (distribution.name, str(entry.algorithm), str(entry.value))
            if distribution.name not in wanted:
                continue
            if progress:
                progress(distribution.name)
            compared += len(entries)
            unknown = [entry for entry in entries if not _known(entry, cache)]
            batches = [unknown[start : start + _BATCH] for start in range(0, len(unknown), _BATCH)]
            for found in pool.map(lambda batch: [_compare(entry) for entry in batch], batches):
                modified += _judge(distribution, found, cache)
    if cache is not None:
        cache.flush()
    return Installed(modified=tuple(modified), compared=compared, covered=covered)


def _judge(distribution: Distribution, found: Iterable[_Compared], cache: StatCache | None) -> Iterator[ModifiedFile]:
    for entry, stat, observed, problem in found:
        if observed != entry.value:
            yield _modified(distribution, entry, stat, observed, problem)
        elif stat is not None and cache is not None:
            cache.put(str(entry.path), stat, str(entry.algorithm), str(observed))


def _hashed_entries(distribution: Distribution, problems: list[ModifiedFile]) -> Iterator[RecordEntry]:
    try:
        for entry in record_entries(distribution):
            if entry.value and entry.algorithm in _ALGORITHMS:
                yield entry
    except (FormatError, InputError) as error:
        # A RECORD that cannot be read is itself a modified file: its distribution cannot be verified.
        path = f"{distribution.metadata.name}/RECORD"
        unknown = Digest("sha256", "0" * 64)
        problems.append(
            ModifiedFile(
                distribution=distribution.name,
                version=distribution.version,
                path=path,
                expected=unknown,
                observed=None,
                problem=error.message,
            )
        )


def _known(entry: RecordEntry, cache: StatCache | None) -> bool:
    """Whether the cache says that this file has the recorded hash."""
    if cache is None:
        return False
    try:
        return cache.get(str(entry.path), os.stat(entry.path), str(entry.algorithm)) == entry.value
    except OSError:
        return False


def _compare(entry: RecordEntry) -> _Compared:
    try:
        with open(entry.path, "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            hasher = hashlib.new(str(entry.algorithm))
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        return entry, None, None, None
    except OSError as error:
        return entry, None, None, error.strerror or str(error)
    # A file that changes while it is read is not put into the cache: its identity says nothing.
    return entry, after if identity(before) == identity(after) else None, hasher.hexdigest(), None


def _modified(
    distribution: Distribution, entry: RecordEntry, stat: os.stat_result | None, observed: str | None, problem: str | None
) -> ModifiedFile:
    return ModifiedFile(
        distribution=distribution.name,
        version=distribution.version,
        path=os.path.relpath(entry.path, distribution.location),
        expected=Digest(str(entry.algorithm), str(entry.value)),
        observed=Digest(str(entry.algorithm), observed) if observed else None,
        problem=problem,
        written=dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if stat else None,
        owner=owner_of(entry.path),
    )


def owner_of(path: Path) -> str | None:
    """The account a file belongs to, or None when it is gone or the account has no name here."""
    try:
        return pwd.getpwuid(path.stat().st_uid).pw_name
    except (OSError, KeyError):
        return None
