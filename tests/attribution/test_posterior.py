"""Beliefs follow evidence: laws that hold whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truerun.attribution.hypotheses import SHARE, Shape, enumerate_space
from truerun.attribution.posterior import Scale, believe, noise_around

SCALE = Scale(tolerance=0.01, drop=0.08, noise=noise_around(0.01))
EVERYTHING = frozenset(range(8))


def test_the_prior_is_equal_for_all_and_sums_to_one() -> None:
    space = enumerate_space([1.0] * 8)
    assert np.exp(space.log_prior).sum() == pytest.approx(1.0)
    marginals = np.exp(space.log_prior) @ space.involves()
    assert np.ptp(marginals) < 1e-12
    assert sum(SHARE.values()) == pytest.approx(1.0)
    # 1 none, 8 single, 28 pairs in two shapes, 56 ordered pairs, 56 triples
    assert len(space) == 1 + 8 + 2 * 28 + 56 + 56


def test_a_weight_lowers_every_explanation_a_candidate_is_in() -> None:
    plain = believe(enumerate_space([1.0] * 8), [EVERYTHING], [0.08], SCALE).marginals
    weighed = believe(enumerate_space([0.05] + [1.0] * 7), [EVERYTHING], [0.08], SCALE).marginals
    assert weighed[0] < plain[0] / 5
    assert weighed[1] > plain[1]


def test_alone_on_the_reference_convicts_and_without_it_acquits_the_rest() -> None:
    subsets = [EVERYTHING, frozenset({3}), EVERYTHING - {3}]
    beliefs = believe(enumerate_space([1.0] * 8), subsets, [0.08, 0.079, 0.001], SCALE)
    assert beliefs.marginals[3] > 0.98
    assert beliefs.members(beliefs.best) == (3,)
    assert beliefs.space.shape[beliefs.best] == Shape.SINGLE


def test_both_together_and_neither_alone() -> None:
    subsets = [EVERYTHING, frozenset({3}), frozenset({5}), frozenset({3, 5}), EVERYTHING - {3}, EVERYTHING - {5}]
    beliefs = believe(enumerate_space([1.0] * 8), subsets, [0.08, 0.0, 0.001, 0.081, 0.0, 0.002], SCALE)
    assert beliefs.members(beliefs.best) == (3, 5)
    assert beliefs.space.shape[beliefs.best] == Shape.TOGETHER
    assert min(beliefs.marginals[3], beliefs.marginals[5]) > 0.97


def test_one_odd_rerun_convicts_nobody() -> None:
    """Change 6 alone looks bad once, but everything that holds it and not 3 is good again and again."""
    goods = [frozenset({6, 0}), frozenset({6, 1, 2}), EVERYTHING - {3}]
    subsets = [EVERYTHING, frozenset({3}), frozenset({6}), *goods]
    beliefs = believe(enumerate_space([1.0] * 8), subsets, [0.08, 0.08, 0.03, 0.0, 0.001, 0.0], SCALE)
    assert beliefs.marginals[3] > 0.97
    assert beliefs.marginals[6] < 0.3


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.frozensets(st.integers(0, 7), min_size=1), st.floats(-0.5, 0.5, allow_nan=False)), min_size=1, max_size=12
    )
)
def test_probabilities_whatever_is_seen(seen: list[tuple[frozenset[int], float]]) -> None:
    beliefs = believe(enumerate_space([1.0] * 8), [subset for subset, _ in seen], [drop for _, drop in seen], SCALE)
    assert np.exp(beliefs.log_posterior).sum() == pytest.approx(1.0)
    assert ((beliefs.marginals >= 0) & (beliefs.marginals <= 1 + 1e-9)).all()


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(8)), st.integers(0, 2**32 - 1))
def test_names_do_not_matter(order: list[int], seed: int) -> None:
    """Renumbering the candidates renumbers the answer: no candidate is special."""
    generator = np.random.default_rng(seed)
    subsets = [frozenset(np.flatnonzero(generator.random(8) < 0.5).tolist()) for _ in range(5)]
    drops = generator.normal(0.03, 0.04, 5).tolist()
    plain = believe(enumerate_space([1.0] * 8), subsets, drops, SCALE).marginals
    renamed = believe(
        enumerate_space([1.0] * 8), [frozenset(order[item] for item in subset) for subset in subsets], drops, SCALE
    ).marginals
    np.testing.assert_allclose([renamed[order[item]] for item in range(8)], plain, atol=1e-9)
