"""Files of a project: hashing them, finding them, reading them within bounds. Symbolic links are resolved and said, never silent.

Does not follow links to folders while searching, and skips what is not the project's own: version control, caches,
virtual environments.
"""

from __future__ import annotations

import functools
import os
import re
import stat as stat_modes
from collections.abc import Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from truerun.adapters.objects import ObjectStore, blake3_of, write_whole
from truerun.adapters.statcache import StatCache, identity
from truerun.core.digest import Digest
from truerun.core.errors import InputError

__all__ = [
    "TABLE_SUFFIXES",
    "ObjectStore",
    "StatCache",
    "blake3_of",
    "find_files",
    "hash_file",
    "leaves",
    "read_bounded",
    "write_whole",
]

IGNORED_FOLDERS = frozenset(
    {".git", ".hg", ".truerun", ".venv", "__pycache__", "node_modules", "site-packages", ".ipynb_checkpoints"}
    | {".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)
TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson")
MAX_ENTRIES = 1_000_000
_CHUNK = 1 << 20
_ATTEMPTS = 3


def hash_file(path: Path, cache: StatCache | None = None) -> Digest:
    """
    BLAKE3 of the file at *path*, from *cache* when its size, inode, mtime and ctime are unchanged.

    Reads in pieces rather than through a memory map: a file cut short meanwhile must not kill the process. Raises
    InputError when it cannot be read, is not a regular file, or keeps changing while it is read.
    """
    name = os.path.abspath(path)
    try:
        if cache is not None:
            known = cache.get(name, os.stat(name), "blake3")
            if known is not None:
                return Digest.parse(known)
        for _ in range(_ATTEMPTS):
            digest, before, after = _hash_once(name)
            if identity(before) == identity(after):
                if cache is not None:
                    cache.put(name, after, "blake3", digest.render())
                return digest
    except OSError as error:
        raise _unreadable(path, error) from error
    raise InputError(f"{path} changes while it is read", next_step="run the command again when nothing writes to it")


def _hash_once(name: str) -> tuple[Digest, os.stat_result, os.stat_result]:
    # O_NONBLOCK: a named pipe in place of the file must not make us wait for a writer.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        if not stat_modes.S_ISREG(before.st_mode):
            raise InputError(f"{name} is not a regular file", next_step="declare files, not folders, pipes or devices")
        hasher = blake3()
        while chunk := os.read(descriptor, _CHUNK):
            hasher.update(chunk)
        return Digest("blake3", hasher.hexdigest()), before, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, limit: int) -> bytes:
    """All bytes of the regular file at *path*; raises InputError when it cannot be read or is larger than *limit* bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat_modes.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{path} is not a regular file")
            data = stream.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > limit:
        raise InputError(f"{path} is too large", got=f"more than {limit} bytes", expected=f"at most {limit} bytes")
    return data


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {path}: {error.strerror or error}", next_step="check that it exists and who may read it")


def leaves(root: Path, path: Path) -> bool:
    """Whether *path*, with links resolved, lies outside *root*."""
    return not path.resolve().is_relative_to(root.resolve())


def find_files(root: Path, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """
    The files below *root* that match any of *patterns*, and notes on what was resolved or not followed.

    Patterns are globs relative to *root* (`*` and `?` within one folder, `**` across folders). Paths are relative, with
    forward slashes, sorted. Raises InputError for a pattern that leaves the project or when there are too many files.
    """
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise InputError(f"the pattern {pattern!r} leaves the project", expected="a path inside it, relative to truerun.toml")
    plain = [pattern.removeprefix("./") for pattern in patterns]
    matches = [_compile(pattern) for pattern in plain]
    found: list[str] = []
    notes: list[str] = []
    for relative, entry in _walk(root, "", _Search([pattern.split("/") for pattern in plain], notes)):
        if any(match.fullmatch(relative) for match in matches):
            if not relative.isprintable():
                raise InputError(f"a file name that cannot be written down: {relative!a}", next_step="rename the file")
            found.append(relative)
            if entry.is_symlink() and leaves(root, root / relative):
                notes.append(f"{relative} is a link to {os.path.realpath(entry.path)}, outside the project; its bytes are locked")
    return sorted(found), notes


class _Search:
    """What a walk carries: which folders can hold a match, how much was seen, what to tell."""

    def __init__(self, patterns: list[list[str]], notes: list[str]) -> None:
        self._patterns = patterns
        self.notes = notes
        self.seen = 0

    def enters(self, folder: str) -> bool:
        """Whether any pattern can match something below *folder*."""
        parts = folder.split("/")
        return any(self._reaches(pattern, parts) for pattern in self._patterns)

    @staticmethod
    def _reaches(pattern: list[str], parts: list[str]) -> bool:
        for position, part in enumerate(parts):
            if "**" in pattern[position]:
                return True
            if position == len(pattern) - 1 or not _compile(pattern[position]).fullmatch(part):
                return False
        return True


def _walk(root: Path, prefix: str, search: _Search) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(root / prefix) as entries:
            listing = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(root / prefix, error) from error
    if prefix and any(entry.name == "pyvenv.cfg" for entry in listing):
        return
    search.seen += len(listing)
    if search.seen > MAX_ENTRIES:
        raise InputError(
            f"more than {MAX_ENTRIES} files below {root}", next_step="narrow the patterns in truerun.toml, such as src/**/*.py"
        )
    for entry in listing:
        relative = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            if entry.name in IGNORED_FOLDERS or not search.enters(relative):
                continue
            if entry.is_symlink():
                search.notes.append(f"{relative} is a link to a folder and was not followed")
            else:
                yield from _walk(root, relative, search)
        elif entry.is_file():
            yield relative, entry


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(special.get(part) or re.escape(part) for part in parts), re.DOTALL)
