"""Rule record-not-kept."""

from __future__ import annotations

from truerun.core.finding import Severity
from truerun.monitoring.record_not_kept import check_kept


def test_trouble_is_said_and_no_more() -> None:
    """A full disk during an observed run: a warning that names it."""
    (finding,) = check_kept("its ledger could not be written", "No space left on device")
    assert finding.severity is Severity.WARNING
    assert "No space left on device" in finding.message


def test_no_trouble() -> None:
    """The accept twin."""
    assert check_kept("its ledger could not be written", None) == ()
