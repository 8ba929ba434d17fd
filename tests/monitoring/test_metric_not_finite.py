"""Rule metric-not-finite."""

from __future__ import annotations

import pytest

from truerun.monitoring.metric_not_finite import check_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_a_number_any_more(value: float) -> None:
    """A loss that became NaN or infinite is named with its step."""
    (finding,) = check_finite("loss", value, 12, 0)
    assert (finding.subject.name, finding.location.step) == ("loss", 12)


@pytest.mark.parametrize("value", [0.0, -1e300, 1e-320])
def test_any_finite_number(value: float) -> None:
    """The accept twin: however large or small."""
    assert check_finite("loss", value, 12, 0) == ()
