"""Curves as SVG: well-formed whatever was measured, readable without eyes."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from truerun.core.incident import Curve
from truerun.core.run import MetricPoint
from truerun.response.curves import describe_curve, render_curve

values = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1e6, 1e6)


def curve(run, reference=(), **more):
    def points(series):
        return tuple(MetricPoint(name="m", step=step, value=value) for step, value in enumerate(series))

    return Curve(name="m <&>", goal="max", run=points(run), reference=points(reference), **more)


@given(st.lists(values, max_size=30), st.lists(values, max_size=30), st.none() | st.integers(0, 40))
def test_any_numbers_draw(run, reference, onset):
    """Empty, constant, diverging, infinite: always nothing, or one well-formed element inside its frame."""
    drawn = render_curve(curve(run, reference, onset=onset, tolerance=0.01))
    if not any(abs(value) < 1e100 for value in run):
        assert drawn == ""
        return
    svg = ET.fromstring(drawn)
    assert svg.find("title").text == "m <&>"
    assert svg.find("desc").text


def test_a_long_series_is_thinned_and_keeps_its_end():
    """A million points make a few hundred, and the last one is the last one."""
    drawn = render_curve(curve([step / 1e5 for step in range(100_000)]))
    assert len(drawn) < 12_000
    assert "1 this run" in drawn


def test_it_is_described_in_words():
    """Where it ends, where the reference ends, where they part."""
    words = describe_curve(curve([0.5, 0.7], [0.5, 0.9], onset=1))
    assert words == "The run ends at 0.7, its reference at 0.9; the first difference is at step 1."
