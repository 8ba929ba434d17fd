"""D2: erroneous values: another unit, a lost sign, sentinels, a stuck constant."""

import pytest

from truerun.core.finding import Severity
from truerun.inspection.data.data_range import check_range


@pytest.mark.parametrize(
    "value", [lambda x: x * 1000, lambda x: -x, lambda x: x / 1000, lambda _: -999.0], ids=["x1000", "sign", "/1000", "-999"]
)
def test_wrong_values_name_column_rows_and_contributor(growing, value):
    """A fifth of one contributor's new values of f20 are wrong."""
    grown = growing("breast_cancer", new=150)
    rows = grown.rows(0.2)
    grown.set("f20", rows, value)
    found = [finding for finding in check_range(grown.growth()) if finding.subject.key == "f20"]
    (finding,) = found
    assert finding.severity is Severity.ERROR
    assert finding.actor.id == grown.someone
    assert set(finding.location.rows) == set(rows.tolist())


def test_one_row_far_out_is_a_warning(growing):
    """A single sentinel among hundreds of rows and dozens of columns."""
    grown = growing()
    row = grown.rows(0.01)[:1]
    grown.set("f20", row, lambda _: -999.0)
    (finding,) = check_range(grown.growth())
    assert finding.severity is Severity.WARNING
    assert finding.location.rows == tuple(row.tolist())


def test_a_stuck_value_inside_the_range_is_found(growing):
    """All of one contributor's new values of f20 are 7.3, an unsuspicious number."""
    grown = growing()
    grown.set("f20", grown.rows(), lambda _: 7.3)
    (finding,) = [finding for finding in check_range(grown.growth()) if finding.subject.key == "f20"]
    assert "exactly 7.3" in finding.message


def test_a_zero_that_means_missing_is_found(growing):
    """Zeros stand in for a fifth of the values of a column that is never zero."""
    grown = growing("breast_cancer", new=150)
    rows = grown.rows(0.2)
    grown.set("f1", rows, lambda _: 0.0)
    assert any(set(rows.tolist()) <= set(finding.location.rows) for finding in check_range(grown.growth()))


def test_a_contributor_of_one_class_only_is_no_finding(growing):
    """Accept twin: somebody contributes nothing but 0s, whose pixels are constant where others' are not."""
    grown = growing(new=500, people=2)
    zeros = {name: rows[[grown.now["label"][int(row)] == 0 for row in rows]] for name, rows in grown.added.items()}
    grown.added = zeros
    assert [finding for finding in check_range(grown.growth()) if finding.severity is Severity.ERROR] == []


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_honest_growth_is_no_finding(growing, name):
    for seed in range(3):
        assert check_range(growing(name, seed=seed, new=50).growth()) == ()
