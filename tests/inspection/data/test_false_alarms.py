"""Counted, not promised: honest growth of three real data sets, twenty seeds each, through every data rule."""

import pytest

from truerun.core.finding import Severity
from truerun.inspection.data.rules import check_growth


@pytest.mark.slow
@pytest.mark.parametrize(("name", "new"), [("digits", 400), ("wine", 50), ("breast_cancer", 150)])
@pytest.mark.parametrize("people", [1, 8])
def test_twenty_honest_additions_raise_no_alarm(growing, name, new, people):
    """Rows of the same data set, added by people who did nothing wrong: no warning, no error."""
    alarms = [
        (seed, finding.rule, finding.message)
        for seed in range(20)
        for finding in check_growth(growing(name, seed=1000 + seed, new=new, people=people).growth())
        if finding.severity.rank >= Severity.WARNING.rank
    ]
    assert alarms == []
