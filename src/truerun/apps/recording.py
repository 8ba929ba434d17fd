"""A run's entries: who signs them, and what happens when they cannot be written.

In `enforce` mode a ledger that cannot be written stops the run before it starts. In `observe` mode the run goes on: what
could not be entered is kept as lines of canonical JSON in the run's folder (`unrecorded.jsonl`), and a finding says so.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from truerun.adapters.keys import create_run_key
from truerun.apps.project import Project
from truerun.core.canonical import render_canonical
from truerun.core.errors import SigningKeyError, TruerunError
from truerun.core.fact import Fact, render_predicate
from truerun.core.run import LedgerSpan, Mode
from truerun.ledger.signing import Signer

SPOOL = "unrecorded.jsonl"


class Recorder:
    """Appends the entries of one run; `trouble` says in words what kept them out of the ledger; while `strict` that raises."""

    def __init__(self, project: Project, mode: Mode, folder: Path, key: str | None) -> None:
        self._project = project
        self.strict = mode is Mode.ENFORCE
        self._folder = folder
        self._first: int | None = None
        self._last: int | None = None
        self.run_key = create_run_key()
        self.trouble: str | None = None
        self.unsigned: str | None = None
        self.author: Signer = self.run_key
        try:
            self.author = project.signer(key)
        except SigningKeyError as error:
            if mode is Mode.ENFORCE:
                raise
            self.unsigned = f"{error.message}; its entries are signed by the run's own key alone"

    def record(self, fact: Fact, signer: Signer | None = None) -> None:
        """Append *fact*, signed by the run's key unless *signer* is given; raises only while `strict`."""
        if self.trouble is None:
            try:
                entry = self._project.ledger.append(fact, signer or self.run_key)
            except (TruerunError, OSError) as error:
                if self.strict:
                    raise
                self.trouble = error.message if isinstance(error, TruerunError) else str(error)
            else:
                self._first = entry.index if self._first is None else self._first
                self._last = entry.index
                return
        self._spool(fact)

    def span(self) -> LedgerSpan:
        """The entries of this run, and the tree head after them."""
        head: str | None = None
        with contextlib.suppress(TruerunError, OSError):  # a ledger in trouble has no head to show, and said so already
            head = str(self._project.ledger.tree_head()) if self._last is not None else None
        return LedgerSpan(first=self._first, last=self._last, tree_head=head)

    def _spool(self, fact: Fact) -> None:
        kind, predicate = render_predicate(fact)
        # The disk may be the trouble; the finding about it is on standard error either way.
        with contextlib.suppress(OSError, TruerunError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / SPOOL).open("ab") as spool:
                spool.write(render_canonical({"predicateType": kind, "predicate": predicate}) + b"\n")
