"""D3: categories spelled anew or invented."""

import numpy as np
import polars as pl
import pytest

from truerun.core.finding import Severity
from truerun.inspection.data.data_set import check_set


@pytest.fixture
def grown(growing):
    """Digits with a colour for each row."""
    made = growing()
    colours = pl.Series("colour", made.draw.choice(["red", "green", "blue"], made.now.height))
    made.now = made.now.with_columns(colours)
    made.approved = made.now[: made.approved.height]
    return made


@pytest.mark.parametrize("spelling", ["Red", "red ", "RED", "r-e-d", "ｒｅｄ"])
def test_a_known_category_spelled_anew_is_an_error_at_its_first_row(grown, spelling):
    row = grown.rows(0.01)[:1]
    grown.set("colour", row, lambda _: spelling)
    (finding,) = check_set(grown.growth())
    assert finding.severity is Severity.ERROR
    assert finding.location.rows == tuple(row.tolist())
    assert repr(spelling) in finding.message
    assert "'red'" in finding.message


def test_an_invented_category_in_many_rows(grown):
    rows = grown.rows(0.2)
    grown.set("colour", rows, lambda _: "ultraviolet")
    (finding,) = check_set(grown.growth())
    assert finding.actor.id == grown.someone
    assert set(finding.location.rows) == set(rows.tolist())


def test_a_new_class_of_the_label(grown):
    rows = grown.rows(0.2)
    grown.set("label", rows, lambda _: 11)
    (finding,) = check_set(grown.growth())
    assert finding.subject.key == "label"


def test_free_text_raises_no_alarm(grown):
    """Accept twin: names are new in every row, as they always were."""
    names = pl.Series("name", [f"image {i}" for i in range(grown.now.height)])
    few = pl.Series("place", [f"place {i % 200}" if i < 200 else "home" for i in range(grown.now.height)])
    grown.now = grown.now.with_columns(names, few)
    grown.approved = grown.now[: grown.approved.height]
    grown.set("place", np.array([grown.now.height - 1]), lambda _: "somewhere new")
    assert check_set(grown.growth()) == ()
