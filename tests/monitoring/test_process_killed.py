"""Rule process-killed: who or what ended a training process, as far as it can be known."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from truerun.core.finding import Severity
from truerun.monitoring.process_killed import check_ending


def ending(returncode: int, **known: Any) -> Any:
    usual = {"passed_on": (), "out_of_memory": False, "timed_out": False, "vanished": 0, "step": 40}
    return check_ending(returncode, **{**usual, **known})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_by_someone(number: int) -> None:
    """A signal that the agent did not pass on."""
    (finding,) = ending(-number, vanished=1)
    assert finding.severity is Severity.ERROR
    assert "sent by another process" in finding.message


def test_killed_behind_a_shell() -> None:
    """A shell reports 137 for a child that SIGKILL ended; the child said no goodbye."""
    assert ending(137, vanished=1)[0].evidence["signal"] == "SIGKILL"


def test_out_of_memory_is_told_apart() -> None:
    """SIGKILL while the kernel's count of out-of-memory kills went up."""
    assert "lack of memory" in ending(-signal.SIGKILL, out_of_memory=True, vanished=1)[0].message


def test_a_crash_is_its_own() -> None:
    """A segmentation fault is nobody else's signal."""
    assert "crash of its own" in ending(-signal.SIGSEGV, vanished=1)[0].message


def test_interrupted_on_purpose() -> None:
    """The accept twin: Ctrl-C through truerun is a note."""
    assert ending(-signal.SIGINT, passed_on=(signal.SIGINT,), vanished=1)[0].severity is Severity.NOTE


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_an_exit_code_is_not_a_signal(code: int) -> None:
    """The accept twin: an exception, sys.exit, even exit code 137, from a process that said goodbye."""
    assert ending(code) == ()


def test_vanished_worker() -> None:
    """torchrun reports 1 while a worker was killed: the worker is missing its goodbye."""
    assert ending(1, vanished=1)[0].severity is Severity.ERROR
    assert ending(0, vanished=1)[0].severity is Severity.WARNING
