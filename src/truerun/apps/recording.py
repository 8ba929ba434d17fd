"""A run's entries: who signs them, and what happens when they cannot be written.

In `enforce` mode a ledger that cannot be written stops the run before it starts. Once a run is on its way, and in `observe`
mode from the beginning, nothing waits for the ledger: a thread of its own enters what there is to enter, in order, and
tries again while somebody else holds the ledger. What has not been entered is kept meanwhile as lines of canonical JSON in
the run's folder (`unrecorded.jsonl`); what is left there in the end is a finding.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from truerun.adapters.keys import create_run_key
from truerun.apps.project import Project
from truerun.core.canonical import render_canonical
from truerun.core.errors import SigningKeyError, TruerunError
from truerun.core.fact import Fact, render_predicate
from truerun.core.run import LedgerSpan, Mode
from truerun.ledger.signing import Signer

SPOOL = "unrecorded.jsonl"
PATIENCE_SECONDS = 3.0
RETRY_SECONDS = 5.0
LAST_SECONDS = 90.0


class Recorder:
    """Appends the entries of one run; `trouble` says in words what keeps them out of the ledger; while `strict` that raises."""

    def __init__(self, project: Project, mode: Mode, folder: Path, key: str | None) -> None:
        self._project = project
        self.strict = mode is Mode.ENFORCE
        self._folder = folder
        self._first: int | None = None
        self._last: int | None = None
        self.run_key = create_run_key()
        self.trouble: str | None = None
        self.unsigned: str | None = None
        self._waiting: list[tuple[Fact, Signer]] = []
        self._changed = threading.Condition()
        self._late = self._ending = False
        self._spooled = 0
        self._thread: threading.Thread | None = None
        self.author: Signer = self.run_key
        try:
            self.author = project.signer(key)
        except SigningKeyError as error:
            if mode is Mode.ENFORCE:
                raise
            self.unsigned = f"{error.message}; its entries are signed by the run's own key alone"

    def record(self, fact: Fact, signer: Signer | None = None) -> None:
        """
        Append *fact*, signed by the run's key unless *signer* is given; raises only while `strict`.

        Otherwise waits a few seconds at most, and not at all while earlier facts are still waiting.
        """
        if self.strict:
            self._append(fact, signer or self.run_key)
            return
        with self._changed:
            self._waiting.append((fact, signer or self.run_key))
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="truerun-recorder", daemon=True)
                self._thread.start()
            patience = 0.0 if self._late else PATIENCE_SECONDS
            self._late = not self._changed.wait_for(lambda: not self._waiting or self.trouble is not None, patience)
            self._late = self._late or bool(self._waiting)
            if self._late:
                self.trouble = self.trouble or "another process holds it"
                self._spool()

    def settle(self) -> None:
        """Nothing more will come: wait until everything is entered, or cannot be."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting or self._thread is None, LAST_SECONDS)
            if not self._waiting:
                self.trouble = None

    def span(self) -> LedgerSpan:
        """The entries of this run, and the tree head after them."""
        head: str | None = None
        with contextlib.suppress(TruerunError, OSError):  # a ledger in trouble has no head to show, and said so already
            head = str(self._project.ledger.tree_head()) if self._last is not None else None
        return LedgerSpan(first=self._first, last=self._last, tree_head=head)

    def _append(self, fact: Fact, signer: Signer) -> None:
        entry = self._project.ledger.append(fact, signer)
        self._first = entry.index if self._first is None else self._first
        self._last = entry.index

    def _write(self) -> None:
        """The thread: enter what waits, oldest first, until there will be no more or the ledger refuses at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if not self._waiting:
                    break
                fact, signer = self._waiting[0]
                last_try = self._ending
            try:
                self._append(fact, signer)
            except (TruerunError, OSError) as error:
                with self._changed:
                    self.trouble = error.message if isinstance(error, TruerunError) else str(error)
                    self._spool()
                    self._changed.notify_all()
                    if last_try:
                        break
                    self._changed.wait_for(lambda: self._ending, RETRY_SECONDS)
                continue
            with self._changed:
                del self._waiting[0]
                self._spooled = max(0, self._spooled - 1)
                if not self._waiting:
                    self._forget_spool()
                self._changed.notify_all()
        with self._changed:
            self._thread = None
            self._changed.notify_all()

    def _spool(self) -> None:
        """Write down what waits and is not written down yet."""
        # The disk may be the trouble; the finding about it is on standard error either way.
        with contextlib.suppress(OSError, TruerunError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / SPOOL).open("ab") as spool:
                for fact, _ in self._waiting[self._spooled :]:
                    kind, predicate = render_predicate(fact)
                    spool.write(render_canonical({"predicateType": kind, "predicate": predicate}) + b"\n")
                    self._spooled += 1

    def _forget_spool(self) -> None:
        """Everything is entered: the lines are in the ledger now."""
        self.trouble, self._late, self._spooled = None, False, 0
        with contextlib.suppress(OSError):
            (self._folder / SPOOL).unlink()
