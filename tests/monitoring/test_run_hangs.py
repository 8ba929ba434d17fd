"""Rule run-hangs: a step that does not come, and a process that computes nothing."""

from __future__ import annotations

from truerun.core.finding import Severity
from truerun.monitoring.place import Frame, Place
from truerun.monitoring.run_hangs import check_hang, is_overdue

LOCK = Place(
    frame=Frame(path="/project/train.py", line=88, name="exchange", text="queue.get()"),
    caller=None,
    phase="other",
    samples=9,
    total=9,
)


def hang(quiet: float, used: float, place: Place | None = LOCK) -> tuple[object, ...]:
    found = check_hang(quiet, used, 0.2, place, step=40, rank=1, why="py-spy is not installed")
    return tuple((finding.severity, finding.location.line) for finding in found)


def test_deadlock() -> None:
    """Two threads wait for one another: a warning with the line, an error once nothing else explains it."""
    assert hang(20.0, 0.0) == ((Severity.WARNING, 88),)
    assert hang(700.0, 0.5) == ((Severity.ERROR, 88),)
    assert hang(20.0, 0.0, None) == ((Severity.WARNING, None),)


def test_computing_is_no_hang() -> None:
    """The accept twin: a long evaluation, or a step on a machine so busy that it is slow, uses processor time."""
    assert hang(20.0, 1.0) == ()


def test_overdue_by_the_runs_own_measure() -> None:
    """Not before fifteen seconds, fifty median steps, and five times the longest step so far."""
    assert is_overdue(16.0, 0.1, 0.3)
    assert not is_overdue(14.0, 0.1, 0.3)
    assert not is_overdue(60.0, 2.0, 3.0)
    assert not is_overdue(60.0, 0.1, 30.0)
