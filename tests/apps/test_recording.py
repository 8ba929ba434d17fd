"""Recording while the ledger is in trouble: nothing waits for it, nothing is lost, and the order stays."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from truerun.apps import recording
from truerun.apps.recording import SPOOL, Recorder
from truerun.core.digest import digest_bytes
from truerun.core.errors import StorageError
from truerun.core.fact import RunObserved
from truerun.core.run import Mode


class Ledger:
    """A ledger that another process can hold, or whose disk can be full."""

    def __init__(self):
        self.entries: list[Any] = []
        self.free = threading.Event()
        self.free.set()
        self.full = False

    def append(self, fact, signer):
        assert self.free.wait(30)
        if self.full:
            raise StorageError("no space left")
        self.entries.append(fact)
        return SimpleNamespace(index=len(self.entries) - 1)

    def tree_head(self):
        return f"{len(self.entries)}:head"


def observed(step: int) -> RunObserved:
    return RunObserved(
        run="r",
        rank=0,
        first_step=step,
        last_step=step,
        records=digest_bytes(b""),
        records_size=0,
        findings=(),
        at="2026-11-25T10:00:00Z",
    )


@pytest.fixture
def held(monkeypatch, tmp_path):
    monkeypatch.setattr(recording, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.05)
    ledger = Ledger()
    project = SimpleNamespace(ledger=ledger, signer=lambda _: object())
    return ledger, Recorder(project, Mode.OBSERVE, tmp_path, None), tmp_path / SPOOL


@contextmanager
def hold(ledger):
    ledger.free.clear()
    yield
    ledger.free.set()


def test_ledger_held_by_another_process(held):
    """Somebody locks the ledger in the middle of a run: nobody waits, what comes meanwhile is written down, then entered in order."""
    ledger, recorder, spool = held
    recorder.record(observed(1))
    assert (len(ledger.entries), recorder.trouble, spool.exists()) == (1, None, False)
    with hold(ledger):
        for step in range(2, 30):
            recorder.record(observed(step))
        assert recorder.trouble
        assert len(spool.read_bytes().splitlines()) == 28
    recorder.settle()
    assert [fact.first_step for fact in ledger.entries] == list(range(1, 30))
    assert (recorder.trouble, spool.exists()) == (None, False)
    assert (recorder.span().first, recorder.span().last) == (0, 28)


def test_disk_full_for_a_while(held):
    """The same for a disk that is full and is then cleared."""
    ledger, recorder, _ = held
    ledger.full = True
    recorder.record(observed(1))
    assert recorder.trouble == "no space left"
    ledger.full = False
    recorder.record(observed(2))
    recorder.settle()
    assert [fact.first_step for fact in ledger.entries] == [1, 2]


def test_disk_full_to_the_end(held):
    """What could never be entered stays written down, and the trouble is told."""
    ledger, recorder, spool = held
    ledger.full = True
    for step in (1, 2, 3):
        recorder.record(observed(step))
    recorder.settle()
    assert recorder.trouble == "no space left"
    assert len(spool.read_bytes().splitlines()) == 3
    assert recorder.span().first is None


def test_enforce_does_not_begin_without_its_entry(held, tmp_path):
    """The accept twin of going on: before an enforced run starts, trouble raises."""
    ledger, _, _ = held
    ledger.full = True
    recorder = Recorder(SimpleNamespace(ledger=ledger, signer=lambda _: object()), Mode.ENFORCE, tmp_path, None)
    with pytest.raises(StorageError):
        recorder.record(observed(1))
