"""D4: rows repeated to make them weigh more."""

import polars as pl
import pytest

from truerun.core.finding import Severity
from truerun.inspection.data.data_duplicates import check_duplicates


@pytest.mark.parametrize("noise", [0.0, 0.3], ids=["exact", "near"])
def test_copies_name_the_contributor_and_the_rows(growing, noise):
    """A few approved rows are copied a dozen times each, in one contributor's name."""
    grown = growing()
    copies = pl.concat([grown.approved[:5]] * 12)
    for column in ("f10", "f20", "f30") if noise else ():
        jitter = pl.Series(grown.draw.normal(0, noise, copies.height))
        copies = copies.with_columns((pl.col(column) + jitter).alias(column))
    rows = grown.append(copies)
    (finding,) = check_duplicates(grown.growth())
    assert finding.severity is Severity.ERROR
    assert finding.actor.id == grown.someone
    assert len(set(rows.tolist()) & set(finding.location.rows)) >= 0.9 * len(rows)


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_honest_growth_is_no_finding(growing, name):
    for seed in range(3):
        assert check_duplicates(growing(name, seed=seed, new=50).growth()) == ()


def test_a_corrected_row_is_no_copy_of_its_former_self(growing):
    """Accept twin: two hundred labels and a pixel are put right in place."""
    grown = growing()
    rows = grown.draw.choice(grown.approved.height, 200, replace=False)
    grown.edit_in_place("label", rows, lambda label: (label + 1) % 10)
    assert check_duplicates(grown.growth()) == ()
    grown.edit_in_place("f20", rows, lambda value: value + 0.1)
    assert check_duplicates(grown.growth()) == ()


def test_data_that_always_had_copies_may_have_more(growing):
    """Accept twin: a third of the approved rows are copies, and so are a third of the new ones."""
    grown = growing()
    grown.approved = pl.concat([grown.approved, grown.approved[:600]])
    new = grown.now[-300:]
    grown.now = pl.concat([grown.approved, new])
    grown.added = {"person0": grown.now.with_row_index()["index"].to_numpy()[-300:]}
    assert check_duplicates(grown.growth()) == ()
