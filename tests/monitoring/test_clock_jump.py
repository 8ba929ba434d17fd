"""Rule clock-jump: the wall clock was set."""

from __future__ import annotations

import pytest

from truerun.core.finding import Severity
from truerun.monitoring.clock_jump import check_clock


@pytest.mark.parametrize(("jump", "way"), [(3600.0, "forward"), (-5.0, "back")])
def test_somebody_sets_the_clock(jump: float, way: str) -> None:
    (finding,) = check_clock(jump, 0.0, 12)
    assert finding.severity is Severity.WARNING
    assert f"jumped {way}" in finding.message


def test_time_synchronisation_is_no_jump() -> None:
    """The accept twin: a correction of less than two seconds."""
    assert check_clock(1.5, 0.0, 12) == ()
    assert check_clock(-1.5, 0.0, 12) == ()


def test_a_laptop_that_slept() -> None:
    """The accept twin: suspended for an hour; a note."""
    assert check_clock(3600.2, 3600.0, 12)[0].severity is Severity.NOTE
