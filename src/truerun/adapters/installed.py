"""Installed files against their own RECORD (PEP 376). What has not changed since it was compared is answered by the stat cache.

Judges nothing: says which files differ, and how. A file that RECORD lists without a hash is not read. A distribution whose
RECORD and files all have the size, inode, mtime and ctime they had when they agreed is not read again, but for a few files
chosen at random.
"""

from __future__ import annotations

import base64
import binascii
import csv
import datetime as dt
import hashlib
import io
import os
import pwd
import random
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from truerun.adapters.files import read_bounded
from truerun.adapters.originals import MAX_FILE_BYTES, Hashed, keep_originals, read_original
from truerun.adapters.packages import MAX_RECORD_BYTES, Distribution
from truerun.adapters.statcache import SETTLED_NS, StatCache, identity
from truerun.core.digest import Digest
from truerun.core.errors import InputError
from truerun.inspection.code.code_drift import first_difference
from truerun.inspection.environment.package_modified import ModifiedFile

_CHUNK = 1 << 20
_BATCH = 64
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})
# Share of the files of an unchanged distribution that are read again all the same.
_RECHECK_SHARE = 1 / 2000
_UNKNOWN = Digest("sha256", "0" * 64)


# A start-up file that a RECORD lists -> its distribution, algorithm and hash (hexadecimal).
Covered: TypeAlias = Mapping[str, tuple[str, str, str]]


class _Compared(NamedTuple):
    file: Hashed
    stat: os.stat_result | None
    observed: bytes | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """
    What looking at the installed distributions came to.

    `compared` counts files. `covered` maps start-up files (`.pth`, sitecustomize, usercustomize) that a RECORD lists to
    their distribution, algorithm and hash (hexadecimal), whether or not they still have that hash.
    """

    modified: tuple[ModifiedFile, ...]
    compared: int
    covered: Covered


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
            try:
                files, record = _read_record(distribution)
            except (InputError, ValueError, csv.Error) as error:
                modified.append(_unreadable(distribution, error))
                continue
            covered.update(_startup_files(distribution, files))
            if distribution.name not in wanted or not files:
                continue
            if progress:
                progress(distribution.name)
            compared += len(files)
            key, state = f"installed-1:{distribution.metadata}:{record}", _state(files)
            if cache is not None and state is not None and cache.recall(key) == state and _still_agree(files):
                continue
            found = _differing(files, cache, pool)
            modified += [_modified(distribution, item, record) for item in found]
            if cache is not None and not found:
                keep_originals(record, files)
                if state is not None:
                    cache.remember(key, state)
    if cache is not None:
        cache.flush()
    return Installed(modified=tuple(modified), compared=compared, covered=covered)


def covered_startup(distributions: Iterable[Distribution]) -> Covered:
    """The start-up files that RECORDs list; a RECORD that cannot be read covers nothing."""
    covered: dict[str, tuple[str, str, str]] = {}
    for distribution in distributions:
        try:
            data = read_bounded(distribution.metadata / "RECORD", MAX_RECORD_BYTES)
            if b".pth" in data or b"customize" in data:
                covered.update(_startup_files(distribution, _read_record(distribution)[0]))
        except (InputError, ValueError, csv.Error):
            # `inspect_installed` reports it; here it only means that nothing is covered by it.
            continue
    return covered


def _read_record(distribution: Distribution) -> tuple[list[Hashed], str]:
    """The hashed files of a RECORD and the digest of its bytes; nothing without a RECORD."""
    path = distribution.metadata / "RECORD"
    if not path.is_file():
        return [], ""
    data = read_bounded(path, MAX_RECORD_BYTES)
    location = f"{distribution.location}/"
    files = []
    for row in csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True):
        if len(row) >= 2 and row[1]:
            algorithm, _, encoded = row[1].partition("=")
            if algorithm in _ALGORITHMS:
                name = row[0]
                full = location + name if ".." not in name and name[:1] != "/" else os.path.normpath(os.path.join(location, name))
                files.append(Hashed(full, algorithm, encoded))
    return files, hashlib.sha256(data).hexdigest()


def _startup_files(distribution: Distribution, files: Iterable[Hashed]) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for file in files:
        if file.path.endswith(".pth") or "customize" in file.path:
            expected = _decoded(file.encoded)
            yield file.path, (distribution.name, file.algorithm, expected.hex() if expected else "")


def _state(files: Sequence[Hashed]) -> str | None:
    """One digest of what every file's identity is now; None when one is missing or was written a moment ago."""
    hasher = hashlib.sha256()
    newest = 0
    try:
        for file in files:
            stat = os.stat(file.path)
            hasher.update(repr((stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)).encode())
            newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError:
        return None
    return hasher.hexdigest() if time.time_ns() - newest > SETTLED_NS else None


def _still_agree(files: Sequence[Hashed]) -> bool:
    """Whether a few files, chosen at random, hold what RECORD says: the cache is an accelerator, never evidence."""
    chance = random.SystemRandom()
    count = int(len(files) * _RECHECK_SHARE + chance.random())
    return all(item.observed == _decoded(item.file.encoded) for item in map(_compare, chance.sample(files, count)))


def _differing(files: Sequence[Hashed], cache: StatCache | None, pool: ThreadPoolExecutor) -> list[_Compared]:
    unknown = [file for file in files if not _known(file, cache)]
    batches = [unknown[start : start + _BATCH] for start in range(0, len(unknown), _BATCH)]
    differing = []
    for batch in pool.map(_compare_all, batches):
        for item in batch:
            if item.observed is None or item.observed != _decoded(item.file.encoded):
                differing.append(item)
            elif item.stat is not None and cache is not None:
                cache.put(item.file.path, item.stat, item.file.algorithm, item.file.encoded)
    return differing


def _known(file: Hashed, cache: StatCache | None) -> bool:
    """Whether the cache says that this file has the recorded hash."""
    if cache is None:
        return False
    try:
        return cache.get(file.path, os.stat(file.path), file.algorithm) == file.encoded
    except OSError:
        return False


def _compare_all(batch: Sequence[Hashed]) -> list[_Compared]:
    return [_compare(file) for file in batch]


def _compare(file: Hashed) -> _Compared:
    try:
        with open(file.path, "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            hasher = hashlib.new(file.algorithm)
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        return _Compared(file, None, None, None)
    except OSError as error:
        return _Compared(file, None, None, error.strerror or str(error))
    # A file that changes while it is read is not put into the cache: its identity says nothing.
    return _Compared(file, after if identity(before) == identity(after) else None, hasher.digest(), None)


def _decoded(encoded: str) -> bytes | None:
    """The bytes of a RECORD hash (urlsafe base64 without padding), or None when they are not that: nothing equals them."""
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return None


def _modified(distribution: Distribution, item: _Compared, record: str) -> ModifiedFile:
    file, stat = item.file, item.stat
    expected = _decoded(file.encoded)
    readable = expected is not None and len(expected) == hashlib.new(file.algorithm).digest_size
    return ModifiedFile(
        distribution=distribution.name,
        version=distribution.version,
        path=os.path.relpath(file.path, distribution.location),
        expected=Digest(file.algorithm, expected.hex()) if readable and expected else _UNKNOWN,
        observed=Digest(file.algorithm, item.observed.hex()) if item.observed else None,
        line=_line(item, record),
        problem=item.problem,
        written=dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if stat else None,
        owner=_owner(stat),
    )


def _line(item: _Compared, record: str) -> int | None:
    """The first line that differs from the kept original, where there is one."""
    original = read_original(record, item.file) if item.observed is not None and item.file.path.endswith(".py") else None
    if original is None:
        return None
    try:
        return first_difference(original, read_bounded(Path(item.file.path), MAX_FILE_BYTES))
    except InputError:
        # Too large to compare, or gone since it was read: the file is named without a line.
        return None


def _unreadable(distribution: Distribution, error: Exception) -> ModifiedFile:
    return ModifiedFile(
        distribution=distribution.name,
        version=distribution.version,
        path=f"{distribution.metadata.name}/RECORD",
        expected=_UNKNOWN,
        observed=None,
        problem=f"it is not a RECORD: {error}"[:200],
    )


def _owner(stat: os.stat_result | None) -> str | None:
    """The account a file belongs to; None when it is gone or the account has no name here."""
    try:
        return pwd.getpwuid(stat.st_uid).pw_name if stat else None
    except KeyError:
        return None
