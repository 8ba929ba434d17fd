"""Intervals of a change: published values, laws, and coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.inspection.outputs.intervals import Shares, chance_within, contrast, false_discovery


def test_newcombes_published_interval_for_independent_samples():
    """56/70 and 48/80: 0.0524 to 0.3339 (Newcombe 1998, method 10, example a)."""
    low, high = Shares(before=56, total_before=70, now=48, total_now=80).interval()
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_newcombes_published_interval_for_paired_samples():
    """36 both, 12 before only, 2 now only, 0 neither: 0.0569 to 0.3404 (Newcombe 1998, paired, method 10)."""
    low, high = Shares(before=48, total_before=50, now=38, total_now=50, both=36).interval()
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)


tables = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0)


@given(tables)
def test_an_interval_holds_its_estimate_and_narrows_with_its_level(cells):
    both, lost, won, _ = cells
    total = sum(cells)
    change = Shares(before=both + lost, total_before=total, now=both + won, total_now=total, both=both)
    low, high = change.interval()
    assert -1 <= low <= change.fall + 1e-9
    assert change.fall - 1e-9 <= high <= 1
    inner_low, inner_high = change.interval(1.0)
    assert low <= inner_low + 1e-9
    assert inner_high <= high + 1e-9


@given(tables)
def test_a_reversed_change_is_its_mirror_image(cells):
    both, lost, won, _ = cells
    total = sum(cells)
    change = Shares(before=both + lost, total_before=total, now=both + won, total_now=total, both=both)
    assert change.reversed.reversed == change
    low, high = change.interval()
    mirrored_low, mirrored_high = change.reversed.interval()
    assert (mirrored_low, mirrored_high) == (pytest.approx(-high, abs=1e-9), pytest.approx(-low, abs=1e-9))


def test_coverage_is_near_95_percent():
    """2,000 paired samples of 80 examples with a true fall of 0.1: the interval misses it in 3 to 7 % of them."""
    generator = np.random.default_rng(1)
    cells = generator.multinomial(80, [0.75, 0.15, 0.05, 0.05], size=2000)
    missed = 0
    for both, lost, won, _ in cells.tolist():
        low, high = Shares(before=both + lost, total_before=80, now=both + won, total_now=80, both=both).interval()
        missed += not low <= 0.10 <= high
    assert 0.03 <= missed / 2000 <= 0.07


def test_a_contrast_of_equal_falls_is_around_zero():
    change = Shares(before=80, total_before=100, now=60, total_now=100)
    value, low, high = contrast(change, change)
    assert value == 0
    assert low < 0 < high


def test_chance_is_small_only_where_the_interval_clears_the_tolerance():
    strong = Shares(before=900, total_before=1000, now=600, total_now=1000)
    weak = Shares(before=9, total_before=10, now=8, total_now=10)
    assert chance_within(lambda z: strong.interval(z)[0], 0.05) < 1e-6
    assert chance_within(lambda z: weak.interval(z)[0], 0.05) > 0.1
    assert chance_within(lambda z: weak.interval(z)[0], 0.5) == 1.0
    edge = Shares(before=48, total_before=50, now=38, total_now=50, both=36)
    low = edge.interval()[0]
    assert chance_within(lambda z: edge.interval(z)[0], low) == pytest.approx(0.025, abs=1e-4)


def test_false_discovery_adjusts_as_benjamini_and_hochberg():
    """The example of their paper, rounded to the first four."""
    adjusted = false_discovery({"a": 0.01, "b": 0.02, "c": 0.03, "d": 0.5})
    assert adjusted == {"a": 0.04, "b": 0.04, "c": 0.04, "d": 0.5}
    assert false_discovery({}) == {}
