"""D3: columns renamed, exchanged, widened, added, gone."""

import polars as pl
import pytest

from truerun.core.finding import Severity
from truerun.inspection.data.data_schema import check_schema


@pytest.fixture
def grown(growing):
    return growing("wine", new=40)


def test_a_renamed_column_is_named_with_both_names(grown):
    grown.now = grown.now.rename({"f3": "alcalinity"})
    (finding,) = check_schema(grown.growth())
    assert "f3 is called alcalinity now" in finding.message


def test_two_columns_that_changed_places(grown):
    """f4 (magnesium, around 100) and f12 (proline, around 700) are exchanged; both are numbers."""
    grown.now = grown.now.with_columns(f4=pl.col("f12"), f12=pl.col("f4"))
    (finding,) = check_schema(grown.growth())
    assert finding.subject.key == "f4"
    assert "f12 look exchanged" in finding.message


def test_another_type_a_missing_column_and_a_new_one(grown):
    grown.now = grown.now.with_columns(pl.col("f0").cast(pl.String), pl.lit(1).alias("extra")).drop("f1")
    findings = {finding.subject.key: finding for finding in check_schema(grown.growth())}
    assert "has type String; it had Float64" in findings["f0"].message
    assert "is gone" in findings["f1"].message
    assert findings["extra"].severity is Severity.WARNING


def test_the_same_columns_in_another_order_are_no_finding(grown):
    """Accept twin: columns are found by name."""
    grown.now = grown.now.select(reversed(grown.now.columns))
    assert check_schema(grown.growth()) == ()
