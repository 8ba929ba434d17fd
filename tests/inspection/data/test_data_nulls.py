"""D2: values that are gone."""

from truerun.core.finding import Severity
from truerun.inspection.data.data_nulls import check_nulls


def test_empty_values_name_column_rows_and_contributor(growing):
    """A third of one contributor's new values of f3 are null, some are NaN."""
    grown = growing("wine", new=60)
    rows = grown.rows(0.5)
    grown.set("f3", rows, lambda _: None)
    grown.set("f3", rows[:2], lambda _: float("nan"))
    (finding,) = check_nulls(grown.growth())
    assert finding.subject.key == "f3"
    assert finding.actor.id == grown.someone
    assert set(finding.location.rows) == set(rows.tolist())
    assert finding.severity.rank >= Severity.WARNING.rank


def test_a_column_that_was_always_half_empty_may_stay_so(growing):
    """Accept twin: nulls at the approved rate, and a contributor who never filled the column in."""
    grown = growing("digits")
    half = grown.draw.choice(grown.now.height, grown.now.height // 2, replace=False)
    grown.set("f3", half, lambda _: None)
    grown.approved = grown.now[: grown.approved.height]
    assert check_nulls(grown.growth()) == ()
    theirs = [i for i in range(grown.now.height) if grown.now["by"][i] == grown.someone]
    grown.set("f4", theirs, lambda _: None)
    grown.approved = grown.now[: grown.approved.height]
    assert check_nulls(grown.growth()) == ()
