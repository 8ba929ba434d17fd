"""The probabilities are what they say, against simulation and known values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.inspection.data.tail import exceedance_tail, grouped_tail, holm, kolmogorov_tail, predictive_tail, wilson


def test_the_predictive_tail_is_the_beta_binomial():
    """By simulation: a share from Jeffreys' posterior, then a binomial count."""
    draw = np.random.default_rng(0)
    shares = draw.beta(3.5, 97.5, 400_000)
    counts = draw.binomial(40, shares)
    for count in (1, 3, 6):
        assert predictive_tail(count, 40, 3, 100) == pytest.approx((counts >= count).mean(), rel=0.05)


def test_the_exceedance_tail_is_exact():
    """The three highest of 1,040 rows are all among the 40 new ones: 40*39*38 / (1040*1039*1038)."""
    assert exceedance_tail(3, 40, 1000) == pytest.approx(math.comb(40, 3) / math.comb(1040, 3))
    assert exceedance_tail(0, 40, 1000) == 1.0


@given(st.integers(1, 60), st.integers(0, 200), st.integers(1, 200))
def test_tails_fall_with_the_count_and_stay_probabilities(trials, seen, extra):
    tails = [predictive_tail(count, trials, seen, seen + extra) for count in range(trials + 2)]
    assert all(0 <= tail <= 1 for tail in tails)
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(tails))
    assert tails[0] == 1
    assert tails[-1] == 0


def test_the_kolmogorov_tail_matches_its_table():
    """The 5 % point for two samples of 100 is 1.358 * sqrt(2/100)."""
    assert kolmogorov_tail(1.358 * math.sqrt(2 / 100), 100, 100) == pytest.approx(0.05, abs=0.012)
    assert kolmogorov_tail(0.0, 100, 100) == 1.0
    assert kolmogorov_tail(1.0, 0, 100) == 1.0


def test_holm_steps_down():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_who_has_their_own_way_is_measured_by_it():
    """Five of ten is alarming for everybody but whoever always had half."""
    usual = grouped_tail(5, 10, seen=20, total=1000, own_seen=2, own_total=100)
    own_way = grouped_tail(5, 10, seen=60, total=1000, own_seen=50, own_total=100)
    assert usual < 1e-4
    assert own_way > 0.3


def test_wilsons_interval_holds_the_share_and_never_leaves_0_to_1():
    low, high = wilson(0, 10)
    assert low == 0
    assert 0.2 < high < 0.35
    low, high = wilson(5, 10)
    assert low < 0.5 < high
