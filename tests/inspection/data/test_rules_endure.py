"""Data rules never raise because the data is odd: empty, constant, infinite, nested, dated, or all null."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truerun.core.canonical import render_canonical
from truerun.core.codec import to_json
from truerun.inspection.data.growth import Growth
from truerun.inspection.data.rules import check_growth

CELLS = {
    pl.Float64: st.none() | st.floats(width=32) | st.just(float("inf")) | st.just(1.0),
    pl.Int64: st.none() | st.integers(-(2**53), 2**53) | st.just(0),
    pl.UInt8: st.none() | st.integers(0, 255),
    pl.String: st.none() | st.text(max_size=5) | st.sampled_from(["a", "A", ""]),
    pl.Boolean: st.none() | st.booleans(),
    pl.Date: st.none() | st.dates(dt.date(1990, 1, 1), dt.date(2030, 1, 1)),
    pl.List(pl.Int64): st.none() | st.lists(st.integers(0, 3), max_size=2),
}


@st.composite
def frames(draw):
    rows = draw(st.integers(0, 60))
    kinds = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=5))
    columns = {}
    for number, kind in enumerate(kinds):
        few = draw(st.lists(CELLS[kind], min_size=1, max_size=6))
        picks = draw(st.lists(st.integers(0, len(few) - 1), min_size=rows, max_size=rows))
        columns[f"c{number}"] = pl.Series([few[pick] for pick in picks], dtype=kind, strict=False)
    return pl.DataFrame(columns), draw(st.integers(0, rows))


@given(frames(), st.integers(0, 4), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=30)
def test_odd_frames_give_findings_that_json_can_hold(reference, made, label, people):
    frame, approved = made
    numbers = np.arange(approved, frame.height)
    added = {"": numbers} if not people else {"ana": numbers[::2], "bo": numbers[1::2]}
    growth = Growth(
        name="odd",
        path=None,
        now=frame,
        approved=frame[:approved],
        added={who: rows for who, rows in added.items() if len(rows)},
        reference=reference,
        label=f"c{label}",
    )
    for finding in check_growth(growth):
        render_canonical(to_json(finding))


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Int8, pl.UInt64, pl.Decimal(10, 2)])
def test_every_width_of_number_is_compared(reference, dtype):
    """x1000 is seen whatever the column's type."""
    values = [i % 50 + 1 for i in range(300)] + ([100, 120, 110, 105, 99, 127] * 3)
    frame = pl.DataFrame({"x": pl.Series(values).cast(dtype)})
    growth = Growth(name="t", path=None, now=frame, approved=frame[:300], added={"": np.arange(300, 318)}, reference=reference)
    assert {finding.rule for finding in check_growth(growth)} >= {"data-range"}


def test_a_label_of_text_and_categories_among_the_features(reference):
    draw = np.random.default_rng(0)
    kind = draw.choice(["cat", "dog"], 400)
    frame = pl.DataFrame(
        {
            "ears": np.where(kind == "cat", "up", "down"),
            "size": np.where(kind == "cat", 4.0, 20.0) + draw.normal(0, 1, 400),
            "weight": np.where(kind == "cat", 5.0, 30.0) + draw.normal(0, 1, 400),
            "kind": kind,
        }
    )
    wrong = frame["kind"].to_list()
    wrong[340:370] = ["dog" if label == "cat" else "cat" for label in wrong[340:370]]
    now = frame.with_columns(pl.Series("kind", wrong))
    growth = Growth(
        name="t",
        path=None,
        now=now,
        approved=frame[:300],
        added={"": np.arange(300, 400)},
        reference=reference,
        label="kind",
    )
    (finding,) = [finding for finding in check_growth(growth) if finding.rule == "label-disagreement"]
    assert set(range(340, 370)) == set(finding.location.rows)
