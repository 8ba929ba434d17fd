"""A ledger's store in one SQLite file: write-ahead log, `synchronous=FULL`, one row per envelope, hash and head.

```
entries(idx INTEGER PRIMARY KEY, envelope BLOB)   nodes(place INTEGER PRIMARY KEY, hash BLOB)   head(id = 0, note BLOB)
```

Writers of all processes queue on `flock` of `<file>.lock` before BEGIN IMMEDIATE: SQLite's own busy handler is a back-off,
not a queue, and starves writers for seconds under load. Integrity is judged by `truerun.ledger`, not here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from truerun.adapters.file_queue import FileQueue
from truerun.core.errors import InputError, LedgerCorruptError, StorageError, TruerunError
from truerun.ledger.envelope import MAX_ENVELOPE_BYTES
from truerun.ledger.store import View, Writer, ordered_hashes

APPLICATION_ID = 0x54525545  # "TRUE"
SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (idx INTEGER PRIMARY KEY, envelope BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS nodes (place INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS head (id INTEGER PRIMARY KEY CHECK (id = 0), note BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR}
_STEPS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space and run the command again; nothing that was acknowledged is lost"),
    sqlite3.SQLITE_IOERR: (
        "the disk refused to write",
        "check free space, quotas and the disk; nothing that was acknowledged is lost",
    ),
    sqlite3.SQLITE_READONLY: ("the ledger cannot be written", "check the permissions of the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: ("the ledger cannot be opened", "check that its folder exists and may be written"),
    sqlite3.SQLITE_PERM: ("the ledger cannot be opened", "check the permissions of the file and its folder"),
    sqlite3.SQLITE_BUSY: ("another process holds the ledger", "find it with: fuser -v FILE; then run the command again"),
    sqlite3.SQLITE_LOCKED: ("another process holds the ledger", "run the command again"),
}


class SqliteStore:
    """
    A store in the SQLite file *path*, made when it is missing unless *read_only*. Usable from several threads, and after a fork.

    Raises InputError where there is nothing to read, StorageError where it cannot be opened or written, LedgerCorruptError
    where the file is no SQLite database or a damaged one.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._queue = FileQueue(path.with_name(path.name + ".lock"))
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        if read_only and not path.is_file():
            raise InputError(f"no ledger at {path}", next_step="run truerun init, or give the file with --ledger")
        self._open()

    def close(self) -> None:
        """Close the file; the last to close it folds the write-ahead log into it. Otherwise done when the program ends."""
        with self._lock:
            self._closing()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """One snapshot: what others commit meanwhile does not show in it."""
        with self._lock, _explained(self.path):
            connection = self._current()
            connection.execute("BEGIN")
            try:
                yield _SqliteView(connection, self.path)
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The only writer of all processes; committed to disk when the block ends well."""
        if self._read_only:
            raise StorageError(f"the ledger cannot be written: {self.path}", next_step=_STEPS[sqlite3.SQLITE_READONLY][1])
        with self._lock, self._queue.turn(), _explained(self.path):
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteView(connection, self.path)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _current(self) -> sqlite3.Connection:
        """The connection of this process: SQLite must not carry one across a fork, and closing the parent's would do harm."""
        if self._pid != os.getpid():
            self._inherited.append(self._connection)
            self._open()
        return self._connection

    def _open(self) -> None:
        with _explained(self.path):
            self._connection = _connect_to_read(self.path) if self._read_only else self._connect_to_write()
            self._pid = os.getpid()
            self._closing = weakref.finalize(self, _close, self._connection, self._pid)

    def _connect_to_write(self) -> sqlite3.Connection:
        try:
            return _connect_to_write(self.path)
        except sqlite3.OperationalError as error:
            # A ledger that may only be read is still worth reading; `writing` says that it cannot be written.
            if not self.path.is_file() or _code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise
            self._read_only = True
            return _connect_to_read(self.path)


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if pid == os.getpid():
        connection.close()


def _connect_to_write(path: Path) -> sqlite3.Connection:
    existed = path.exists()
    connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
    if not existed or connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.executescript(_SCHEMA)
    _require_schema(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = _connect(uri)
        _require_schema(connection, path)
    except sqlite3.OperationalError:
        # A read-only folder has no place for the shared memory of the write-ahead log. Without a log there is nothing to share.
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        connection = _connect(uri + "&immutable=1")
        _require_schema(connection, path)
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_ENVELOPE_BYTES)
    # Text where bytes belong is refused as text, and must not end in a decoding error before.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    # The file may come from a stranger: nothing in its schema may run functions.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise LedgerCorruptError(f"{path} is not a ledger of Truerun", index=0, got=f"application {application:#x}")
    if version != SCHEMA_VERSION:
        raise LedgerCorruptError(f"{path} is a ledger of another version", index=0, got=version, expected=SCHEMA_VERSION)


class _SqliteView:
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def head(self) -> bytes | None:
        rows = self._connection.execute("SELECT note FROM head LIMIT 2").fetchall()
        if len(rows) > 1 or (rows and not isinstance(rows[0][0], bytes)):
            raise LedgerCorruptError("the stored tree head is not one note", index=0, got=f"{len(rows)} rows")
        return bytes(rows[0][0]) if rows else None

    def envelopes(self, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        # One query a row: a cursor reads ahead, and would lose the last good row before a damaged one.
        query = "SELECT idx, envelope FROM entries WHERE idx BETWEEN ? AND ? ORDER BY idx LIMIT 1"
        following, last = _LOWEST if start is None else start, _HIGHEST if stop is None else stop - 1
        while following <= last:
            rows = list(self._rows(query, (following, last), max(following, 0)))
            yield from rows
            following = rows[-1][0] + 1 if rows else last + 1

    def stored(self) -> Iterator[tuple[int, bytes]]:
        return self._rows("SELECT place, hash FROM nodes ORDER BY place", (), 0)

    def hashes(self, places: Sequence[int]) -> tuple[bytes, ...]:
        marks = ",".join("?" * len(places))
        query = f"SELECT place, hash FROM nodes WHERE place IN ({marks})"  # noqa: S608 (question marks only)
        return ordered_hashes(dict(self._rows(query, tuple(places), 0)), places)

    def write(self, envelopes: Sequence[tuple[int, bytes]], hashes: Sequence[tuple[int, bytes]], head: bytes) -> None:
        self._connection.executemany("INSERT INTO entries VALUES (?, ?)", envelopes)
        self._connection.executemany("INSERT INTO nodes VALUES (?, ?)", hashes)
        self._connection.execute("INSERT OR REPLACE INTO head VALUES (0, ?)", (head,))

    def _rows(self, query: str, values: Sequence[int], index: int) -> Iterator[tuple[int, bytes]]:
        """Rows of *query*; where the file is damaged, entry *index* is the first that cannot be relied on."""
        try:
            for number, value in self._connection.execute(query, values):
                if not isinstance(value, bytes):
                    raise LedgerCorruptError(f"row {number} is not stored as bytes", index=max(index, 0))
                yield number, value
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise _explain(error, self._path, index) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors, and the file system's, as ours."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's own message may quote bytes of a damaged schema
        raise _explain(error, path, 0) from error


def _explain(error: Exception, path: Path, index: int) -> TruerunError:
    code = _code(error)
    if code in _STEPS:
        what, step = _STEPS[code]
        return StorageError(f"{what}: {path}", got=str(error), next_step=step)
    if code in _CORRUPT or isinstance(error, UnicodeDecodeError):
        return LedgerCorruptError(
            f"{path} is not a readable SQLite database",
            index=max(index, 0),
            got=str(error),
            next_step="keep the file as evidence and restore a copy that verifies",
        )
    return StorageError(f"the ledger cannot be used: {path}", got=str(error))


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 where the fault is in this program."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
