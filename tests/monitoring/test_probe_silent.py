"""Rule probe-silent: missing evidence is evidence."""

from __future__ import annotations

from truerun.core.finding import Severity
from truerun.monitoring.probe_silent import (
    check_dropped,
    check_fault,
    check_gap,
    check_quiet,
    check_unhooked,
    check_unwatched,
)


def test_training_without_the_probe() -> None:
    """Python was started with -I and trained unseen; beside watched processes it is a warning."""
    assert check_unwatched(1, 0)[0].severity is Severity.ERROR
    assert check_unwatched(1, 500)[0].severity is Severity.WARNING
    assert check_unwatched(0, 0) == ()


def test_records_missing() -> None:
    """Step 11 follows step 7; the accept twin is 8."""
    assert check_gap(8, 11, 0)[0].evidence == {"expected": 8, "observed": 11}
    assert check_gap(8, 8, 0) == ()


def test_hooks_taken_out() -> None:
    """Somebody cleared torch's hook tables."""
    assert check_unhooked(9, 0)[0].severity is Severity.ERROR


def test_troubles_of_our_own_are_warnings() -> None:
    """A fault, dropped records or a long silence are no proof of anything: warnings."""
    found = check_fault(3, "ValueError: x", 0) + check_dropped(2, 0) + check_quiet(40.0, 9, 0)
    assert {finding.severity for finding in found} == {Severity.WARNING}
    assert check_dropped(0, 0) == ()
