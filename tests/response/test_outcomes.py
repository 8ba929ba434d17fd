"""Recall by class with an interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.response.outcomes import measure_outcomes, wilson


def test_the_worst_loss_comes_first():
    """Class b lost half of its recall, class a nothing."""
    before = [("a", "a")] * 10 + [("b", "b")] * 10
    now = [("a", "a")] * 10 + [("b", "b")] * 5 + [("b", "a")] * 5
    worst, rest = measure_outcomes(now, before)
    assert (worst.name, worst.recall, worst.reference) == ("b", 0.5, 1.0)
    assert rest.recall == rest.reference == 1.0


def test_a_known_interval():
    """Wilson's interval of 5 in 10 is 0.2366 to 0.7634."""
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(pair):
    """For any count the share lies inside, and the interval inside 0 to 1."""
    right, count = pair
    low, high = wilson(right, count)
    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1


def test_no_examples_have_no_interval():
    """A programmer's mistake."""
    with pytest.raises(ValueError):
        wilson(0, 0)
