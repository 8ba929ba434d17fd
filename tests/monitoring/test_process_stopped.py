"""Rule process-stopped: SIGSTOP from somebody."""

from __future__ import annotations

from truerun.monitoring.process_stopped import check_stop


def test_stopped_and_resumed() -> None:
    """Said while it lasts and again, with its length, when it is over."""
    (lasting,) = check_stop(2.0, 2.0, 1, resumed=False, step=30, rank=0)
    (over,) = check_stop(7.25, 7.25, 1, resumed=True, step=30, rank=0)
    assert "is stopped since step 30" in lasting.message
    assert "was stopped for 7.2 s after step 30" in over.message
    assert lasting.evidence["term"] != over.evidence["term"]


def test_many_short_stops() -> None:
    """A tenth of a second each, again and again: together they count."""
    (finding,) = check_stop(0.1, 1.2, 12, resumed=True, step=30, rank=0)
    assert "12 stops in all" in finding.message


def test_a_short_stop_is_nothing() -> None:
    """The accept twin: a debugger that attached for a moment."""
    assert check_stop(0.1, 0.1, 1, resumed=True, step=30, rank=0) == ()
