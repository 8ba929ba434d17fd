"""A project's ledger on disk: `ledger.db` and `log.key` in its `.truerun` folder."""

from __future__ import annotations

from pathlib import Path

from truerun.adapters.keys import create_log_key, load_log_key, new_origin
from truerun.adapters.sqlite import SqliteStore
from truerun.core.errors import UsageError
from truerun.core.fact import LedgerCreated
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import render_note_key
from truerun.ledger.signing import Signer

LEDGER_FILE = "ledger.db"
LOG_KEY_FILE = "log.key"


def create_ledger(folder: Path, *, project: str, signer: Signer, at: str) -> Ledger:
    """
    Make the ledger of *project* in *folder* (made where missing) with its first entry, signed by *signer*, claimed at *at*.

    An interrupted creation is continued. Raises UsageError where a ledger exists, StorageError, SigningKeyError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(folder / LEDGER_FILE)
    with store.reading() as view:
        if view.head() is not None:
            raise UsageError(f"there is a ledger already: {folder / LEDGER_FILE}", next_step="truerun ledger verify checks it")
    key_file = folder / LOG_KEY_FILE
    log_key = load_log_key(key_file) if key_file.exists() else create_log_key(key_file, new_origin(project))
    ledger = Ledger(store, log_key)
    ledger.append(LedgerCreated(project=project, origin=log_key.key.name, log_key=render_note_key(log_key.key), at=at), signer)
    return ledger


def open_ledger(folder: Path, *, read_only: bool = False) -> Ledger:
    """The ledger in *folder*; with *read_only* no log key is needed. Raises InputError, StorageError, LedgerCorruptError."""
    store = SqliteStore(folder / LEDGER_FILE, read_only=True)
    if read_only:
        return Ledger(store)
    store.close()
    return Ledger(SqliteStore(folder / LEDGER_FILE), load_log_key(folder / LOG_KEY_FILE))
