"""A project as every command sees it: its declaration, its ledger, its objects, its people and its locks.

Opening reads `truerun.toml` only; the ledger is opened when first asked for, so that what needs none works without one.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from truerun.adapters.config_files import toml_error
from truerun.adapters.files import ObjectStore, StatCache, read_bounded, write_whole
from truerun.core.canonical import parse_canonical
from truerun.core.codec import from_json
from truerun.core.declaration import Declaration, parse_declaration
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError, ProjectNotFoundError, UsageError
from truerun.core.lock import MAX_LOCK_BYTES, Lock, parse_lock, render_lock
from truerun.ledger.ledger import Ledger

if TYPE_CHECKING:
    from truerun.core.fact import LockProposed
    from truerun.ledger.entry import Entry
    from truerun.ledger.history import History, Recorded
    from truerun.ledger.signing import Signer
    from truerun.oversight.people import People

DECLARATION = "truerun.toml"
LOCK_FILE = "truerun.lock"
FOLDER = ".truerun"
MAX_DECLARATION_BYTES = 1024 * 1024
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


class Project:
    """One project folder. `root` is absolute; paths in locks are relative to it."""

    def __init__(self, root: Path, *, declaration_name: str, declaration_bytes: bytes, declaration: Declaration) -> None:
        self.root = root
        self.declaration_name = declaration_name
        self.declaration_bytes = declaration_bytes
        self.declaration = declaration
        self.folder = root / FOLDER
        self.objects = ObjectStore(self.folder / "objects")
        self._entries: list[Entry] = []

    @functools.cached_property
    def cache(self) -> StatCache:
        """The stat cache of whoever runs this."""
        return StatCache()

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger; raises UsageError where there is none."""
        from truerun.adapters.ledger_files import LEDGER_FILE, LOG_KEY_FILE, open_ledger

        if not (self.folder / LEDGER_FILE).is_file():
            raise UsageError(
                f"there is no ledger in {self.folder}",
                next_step="truerun init begins one; where the team keeps one already, copy its .truerun here",
            )
        writable = (self.folder / LOG_KEY_FILE).exists() and os.access(self.folder, os.W_OK)
        return open_ledger(self.folder, read_only=not writable)

    @staticmethod
    def clock() -> str:
        """The time now in RFC 3339 UTC: `TRUERUN_AT` where it is set, else the system clock."""
        claimed = os.environ.get("TRUERUN_AT")
        if claimed is None:
            return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not _TIME.fullmatch(claimed):
            raise UsageError("TRUERUN_AT is not a time", got=claimed, expected="RFC 3339 in UTC, such as 2026-11-20T09:30:00Z")
        return claimed

    def entries(self) -> tuple[Entry, ...]:
        """Every entry of the ledger, authors verified; entries seen before are not read again."""
        self._entries.extend(self.ledger.entries(len(self._entries)))
        return tuple(self._entries)

    def history(self) -> History:
        """What happened, folded from the ledger."""
        from truerun.ledger.history import History

        return History.of(self.entries())

    def people(self) -> People:
        """Who may do what, folded from the ledger."""
        from truerun.oversight.people import People

        return People.of(self.entries())

    def signer(self, key: str | Path | None = None) -> Signer:
        """Who signs: *key*, else `TRUERUN_KEY`, else the SSH agent, else `~/.ssh/id_ed25519`; raises SigningKeyError."""
        from truerun.adapters.keys import load_signer

        return load_signer(Path(key) if key else None)

    def head_lock(self) -> Lock | None:
        """`truerun.lock` as it lies there, or None; raises FormatError when it is not a lock."""
        path = self.root / LOCK_FILE
        if not path.is_file():
            return None
        try:
            return parse_lock(read_bounded(path, MAX_LOCK_BYTES).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise FormatError(f"{LOCK_FILE} is not text", next_step="run truerun lock to write it again") from error

    def save_lock(self, lock: Lock) -> None:
        """Write `truerun.lock`; raises StorageError."""
        text = render_lock(lock).encode()
        path = self.root / LOCK_FILE
        if not path.is_file() or path.read_bytes() != text:
            write_whole(path, lambda stream: stream.write(text))

    def lock(self, digest: Digest) -> Lock:
        """The lock called *digest*, from the objects or from `truerun.lock`; raises InputError when neither has it."""
        if digest in self.objects:
            return from_json(Lock, parse_canonical(self.objects.read(digest)), "lock")
        head = self.head_lock()
        if head is not None and head.digest == digest:
            return head
        raise InputError(
            f"lock {digest.short} is recorded, but what it says is not stored here",
            next_step="copy .truerun/objects from where it was proposed",
        )

    def approved_lock(self) -> Lock | None:
        """
        The newest lock that satisfies the policy (`oversight/admission.py`), or None.

        On a project that is not critical and where nobody approves anything: the newest lock of a run that passed.
        """
        from truerun.core.run import Verdict
        from truerun.oversight.admission import approved_lock

        history = self.history()
        digest = approved_lock(history, self.people())
        if digest is None and not self.declaration.project.critical:
            finished = [run for run in history.runs.values() if run.finished and run.finished.fact.verdict is Verdict.PASS]
            newest = max((run for run in finished if run.started.fact.lock), key=lambda run: run.last_index, default=None)
            digest = newest.started.fact.lock if newest else None
        return self.lock(digest) if digest is not None else None

    def newest_proposal(self) -> Recorded[LockProposed] | None:
        """The newest proposal by somebody who might propose then, or None when there was none yet."""
        people = self.people()
        proposals = reversed(self.history().all_proposals())
        return next((record for record in proposals if people.resolve(record.key, record.index) is not None), None)

    def named_lock(self, text: str) -> Lock:
        """
        The lock that *text* names: `approved`, `head` (the newest proposal), a run's id, or the start of a lock's digest.

        Raises UsageError when it names none or several, InputError when that lock is not stored here.
        """
        if text in ("approved", "head"):
            lock = self.approved_lock() if text == "approved" else self.proposed_lock()
            if lock is None:
                missing = "no lock is approved yet" if text == "approved" else "no lock has been proposed yet"
                raise UsageError(missing, next_step="truerun lock, then truerun approve")
            return lock
        history = self.history()
        if text not in history.runs:
            try:
                return self.lock(history.lock(text))
            except UsageError as error:
                if not any(run.startswith(text) for run in history.runs):
                    raise UsageError(
                        f"{text!r} is no lock and no run",
                        got=error.message,
                        expected="the start of a lock's digest, a run's id, approved, head or .",
                        next_step="truerun runs lists runs, truerun ledger show locks",
                    ) from error
        digest = history.run(text).started.fact.lock
        if digest is None:
            raise UsageError(f"run {text} had no lock", next_step="name another run or a lock")
        return self.lock(digest)

    def proposed_lock(self) -> Lock | None:
        """The newest lock that was proposed, or None when none was yet."""
        proposal = self.newest_proposal()
        return self.lock(proposal.fact.lock) if proposal is not None else None


def open_project(config_path: str | None = None) -> Project:
    """
    Open the project of *config_path*, else `TRUERUN_CONFIG`, else the nearest `truerun.toml` here or above.

    Raises ProjectNotFoundError, FormatError (not TOML, with file:line:column) or DeclarationError (file and key).
    """
    path = find_declaration(config_path)
    data = read_bounded(path, MAX_DECLARATION_BYTES)
    declaration = read_declaration(data, path.name)
    return Project(path.parent, declaration_name=path.name, declaration_bytes=data, declaration=declaration)


def read_declaration(data: bytes, name: str) -> Declaration:
    """Parse the bytes of a `truerun.toml` called *name*; raises FormatError or DeclarationError."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise toml_error(error, name) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: not UTF-8 text", next_step="save the file as UTF-8") from error
    except RecursionError as error:
        raise FormatError(f"{name}: nested too deeply") from error
    return parse_declaration(table, path=name)


def find_declaration(config_path: str | None = None) -> Path:
    """The absolute path of the declaration; raises ProjectNotFoundError."""
    named = config_path or os.environ.get("TRUERUN_CONFIG")
    if named:
        path = Path(named).absolute()
        if not path.is_file():
            raise ProjectNotFoundError(f"there is no {named}", next_step="truerun init drafts a declaration")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DECLARATION).is_file():
            return folder / DECLARATION
    raise ProjectNotFoundError(
        f"no {DECLARATION} in {here} or above", next_step="go to the project's folder, or run truerun init there"
    )
