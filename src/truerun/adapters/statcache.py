"""The stat cache: what a file's digest was the last time its size, inode, mtime and ctime were these. Per person, not per project.

An accelerator, never evidence: a small random share of its answers is checked against the bytes, and one wrong answer
empties it. It is blind to a writer that holds a writable memory map of a page already dirty (measured; ctime does not
move), and to root. Damage, a full disk or another process's lock make it silently useless, never wrong or in the way.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  path TEXT, algorithm TEXT, size INT, inode INT, mtime_ns INT, ctime_ns INT, digest TEXT, PRIMARY KEY (path, algorithm)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memo (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
# A file changed twice within one tick of the kernel's clock keeps its timestamps (git calls this "racy").
SETTLED_NS = 100_000_000
RECHECK_SHARE = 1 / 64
# Files above this size are rechecked more rarely, so that the expected cost of rechecking stays bounded.
RECHECK_BYTES = 32 * 1024 * 1024
_FLUSH_AT = 1024
Identity = tuple[int, int, int, int]


def cache_path() -> Path:
    """`TRUERUN_CACHE` (a folder), else `$XDG_CACHE_HOME/truerun`, else `~/.cache/truerun`."""
    named = os.environ.get("TRUERUN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "truerun"


def identity(stat: os.stat_result) -> Identity:
    """What a change of a file's bytes changes too: size, inode, mtime, ctime."""
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


class StatCache:
    """
    Digests by path and file identity, and small texts by key (`memo`), in one SQLite file.

    Safe under concurrent processes: SQLite's own locking, short waits, and whatever fails counts as a miss. Writes are
    kept in memory until `flush`.
    """

    def __init__(self, folder: Path | None = None, *, recheck_share: float = RECHECK_SHARE) -> None:
        self._file = (folder or cache_path()) / "stat.db"
        self._recheck_share = recheck_share
        self._files: dict[tuple[str, str], tuple[Identity, str]] = {}
        self._memo: dict[str, str] = {}
        self._db = self._open(retry=True)

    def get(self, path: str, stat: os.stat_result, algorithm: str) -> str | None:
        """The digest text kept for *path* while its identity is that of *stat*, else None."""
        wanted = identity(stat)
        pending = self._files.get((path, algorithm))
        if pending is not None:
            return pending[1] if pending[0] == wanted else None
        row = self._one(
            "SELECT size, inode, mtime_ns, ctime_ns, digest FROM files WHERE path = ? AND algorithm = ?", path, algorithm
        )
        if row is None or tuple(row[:4]) != wanted or not isinstance(row[4], str) or self._recheck(stat.st_size):
            return None
        return row[4]

    def put(self, path: str, stat: os.stat_result, algorithm: str, digest: str) -> None:
        """Keep *digest* unless the file changed so recently that its timestamps may not have moved."""
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < SETTLED_NS:
            return
        row = self._one(
            "SELECT size, inode, mtime_ns, ctime_ns, digest FROM files WHERE path = ? AND algorithm = ?", path, algorithm
        )
        if row is not None and tuple(row[:4]) == identity(stat) and row[4] != digest:
            self.clear()
        self._files[path, algorithm] = (identity(stat), digest)
        if len(self._files) >= _FLUSH_AT:
            self.flush()

    def recall(self, key: str) -> str | None:
        """The text kept under *key*, or None."""
        if key in self._memo:
            return self._memo[key]
        row = self._one("SELECT value FROM memo WHERE key = ?", key)
        return row[0] if row is not None and isinstance(row[0], str) else None

    def remember(self, key: str, value: str) -> None:
        """Keep *value* under *key*; the key must name everything the value depends on, as digests."""
        self._memo[key] = value

    def clear(self) -> None:
        """Forget everything: an answer was wrong, so none is to be relied on."""
        self._files.clear()
        self._memo.clear()
        self._write("DELETE FROM files", [()])
        self._write("DELETE FROM memo", [()])

    def flush(self) -> None:
        """Write what was put since the last flush."""
        files = [(path, algorithm, *key, digest) for (path, algorithm), (key, digest) in self._files.items()]
        self._files.clear()
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", files)
        memo = list(self._memo.items())
        self._memo.clear()
        self._write("INSERT OR REPLACE INTO memo VALUES (?, ?)", memo)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _recheck(self, size: int) -> bool:
        share = self._recheck_share * min(1.0, RECHECK_BYTES / max(size, 1))
        return secrets.randbelow(1_000_000) < share * 1_000_000

    def _open(self, *, retry: bool) -> sqlite3.Connection | None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            db = sqlite3.connect(self._file, timeout=0.5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error):
            return None
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_SCHEMA)
        except sqlite3.OperationalError:
            db.close()
            return None
        except sqlite3.DatabaseError:
            db.close()
            with contextlib.suppress(OSError):
                self._file.unlink()
            return self._open(retry=False) if retry else None
        return db

    def _one(self, query: str, *arguments: str) -> tuple[object, ...] | None:
        if self._db is None:
            return None
        try:
            row = self._db.execute(query, arguments).fetchone()
        except sqlite3.Error:
            return None
        return tuple(row) if row is not None else None

    def _write(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        if self._db is None or not rows:
            return
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(query, rows)
            finally:
                self._db.execute("COMMIT")
