"""The search names what makes the metric worse, within few reruns, and nobody else; every story has its accept twin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from simulated import Simulated

from truerun.attribution.convict import Conviction, Ending, Question, convict
from truerun.attribution.hypotheses import Shape

TOLERANCE = 0.01


def search(lab: Simulated, count: int, **rest: object) -> Conviction:
    return convict(lab, Question(count=count, goal="max", tolerance=TOLERANCE, drift=0.1 * TOLERANCE, **rest))  # type: ignore[arg-type]


def harmless(subset: frozenset[int]) -> float:
    return 0.0


def legit(count: int, seed: int, size: float = 0.1) -> np.ndarray:
    """Harmless shifts of single changes, in tolerances."""
    return np.random.default_rng(seed).normal(0, size * TOLERANCE, count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [16, 34])
def test_two_harmful_changes_of_different_size_among_harmless_ones(count: int, seed: int) -> None:
    """A key costs eight points and a lot of rows four; the others shift the metric a little."""
    first, second = np.random.default_rng(seed).choice(count, 2, replace=False).tolist()
    shifts = legit(count, seed)
    lab = Simulated(
        lambda s: 0.08 * (first in s) + 0.04 * (second in s) + sum(shifts[i] for i in s if i not in (first, second)),
        sd=0.002,
        seed=seed,
        parallel=2,
    )
    answer = search(lab, count)
    assert answer.ending is Ending.DECIDED
    assert set(answer.members) == {first, second}
    assert min(answer.probability[first], answer.probability[second]) >= 0.95
    assert max(p for i, p in enumerate(answer.probability) if i not in (first, second)) < 0.1
    assert len(answer.reruns) <= 18
    everything_but = frozenset(range(count)) - {first, second}
    assert {frozenset({first}), frozenset({second}), everything_but} <= {rerun.subset for rerun in answer.reruns}


def test_two_changes_that_harm_only_together() -> None:
    """Neither alone does anything: plain bisect names one of them and stops."""
    lab = Simulated(lambda s: 0.06 * ({3, 11} <= s), sd=0.001, seed=1, parallel=2)
    answer = search(lab, 20)
    assert (set(answer.members), answer.shape) == ({3, 11}, Shape.TOGETHER)
    assert len(answer.reruns) <= 24
    assert max(p for i, p in enumerate(answer.probability) if i not in (3, 11)) < 0.1


def test_three_harmful_changes_are_all_found() -> None:
    lab = Simulated(lambda s: 0.05 * len(s & {1, 5, 9}), sd=0.001, seed=2, parallel=2)
    answer = search(lab, 16)
    assert set(answer.members) == {1, 5, 9}


def test_four_harmful_changes_are_found_in_two_rounds() -> None:
    """More than the explanations weighed at once: what is left after the first ones is searched again."""
    lab = Simulated(lambda s: 0.05 * len(s & {1, 5, 9, 12}), sd=0.0005, seed=3, parallel=2)
    answer = search(lab, 16, budget=60)
    assert set(answer.members) >= {1, 5, 9, 12} or answer.ending is Ending.BUDGET
    assert max(p for i, p in enumerate(answer.probability) if i not in (1, 5, 9, 12)) < 0.1


def test_nothing_is_worse_and_nobody_is_convicted() -> None:
    """The accept twin: two reruns are enough."""
    lab = Simulated(harmless, sd=0.002, parallel=2)
    answer = search(lab, 30, recorded_reference=0.95, recorded_run=0.951)
    assert answer.ending is Ending.NO_DEGRADATION
    assert len(answer.reruns) <= 4
    assert max(answer.probability) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_many_small_legitimate_shifts_convict_nobody(seed: int) -> None:
    """Everything together is a little worse than the tolerance, but no change is: the honest answer names none of them."""
    shifts = np.abs(legit(24, seed, 0.12))
    lab = Simulated(lambda s: sum(shifts[i] for i in s), sd=0.001, seed=seed, parallel=2)
    answer = search(lab, 24, recorded_reference=0.95, recorded_run=0.95 - float(shifts.sum()))
    assert not (answer.ending is Ending.DECIDED and answer.members)
    assert max(answer.probability) < 0.9


def test_better_is_never_harm() -> None:
    """A change that improves the metric hides nothing and is not convicted."""
    lab = Simulated(lambda s: 0.05 * (2 in s) - 0.03 * (7 in s), sd=0.001, parallel=2)
    answer = search(lab, 16)
    assert answer.members == (2,)
    assert answer.probability[7] < 0.1


def test_a_metric_that_should_be_small() -> None:
    lab = Simulated(lambda s: -0.4 * (4 in s), sd=0.002, parallel=2)
    answer = convict(lab, Question(count=12, goal="min", tolerance=0.02))
    assert answer.members == (4,)


def test_the_drop_was_recorded_but_reruns_do_not_show_it() -> None:
    """Somebody altered the live process: no recorded change is to be convicted for it."""
    lab = Simulated(harmless, sd=0.001, parallel=2)
    answer = search(lab, 20, recorded_reference=0.95, recorded_run=0.70)
    assert answer.ending is Ending.NOT_REPRODUCED
    assert max(answer.probability) < 0.1


def test_the_reference_is_not_reached_any_more() -> None:
    lab = Simulated(harmless, level=0.80, parallel=2)
    assert search(lab, 20, recorded_reference=0.95, recorded_run=0.80).ending is Ending.REFERENCE_LOST


def test_a_reference_that_does_not_run() -> None:
    lab = Simulated(harmless, crashes=lambda s: not s, parallel=2)
    assert search(lab, 5).ending is Ending.REFERENCE_FAILS


def test_subsets_that_do_not_run_convict_nobody() -> None:
    """Change 6 needs change 2: subsets with 6 alone fail, and that says nothing about harm."""
    lab = Simulated(lambda s: 0.06 * (9 in s), crashes=lambda s: 6 in s and 2 not in s, sd=0.001, parallel=2)
    answer = search(lab, 14)
    assert answer.members == (9,)
    assert answer.probability[6] < 0.1


def test_a_change_that_makes_the_run_fail_is_the_cause_of_a_failed_run() -> None:
    lab = Simulated(harmless, crashes=lambda s: 5 in s, sd=0.001, parallel=2)
    answer = search(lab, 14, run_crashed=True)
    assert answer.members == (5,)


def test_the_budget_is_kept_and_the_answer_is_then_open() -> None:
    lab = Simulated(lambda s: 0.06 * (9 in s) + 0.04 * (20 in s), sd=0.001, parallel=2)
    answer = search(lab, 32, budget=7)
    assert answer.ending is Ending.BUDGET
    assert len(answer.reruns) == len(lab.asked) == 7


def test_what_depends_is_always_brought_along() -> None:
    """Change 8 applies only with 3; no subset is asked for that has one without the other."""

    def closed(subset: frozenset[int]) -> frozenset[int]:
        return subset | {3} if 8 in subset else subset

    lab = Simulated(lambda s: 0.06 * (8 in s), sd=0.001, parallel=2)
    answer = search(lab, 12, closed=closed)
    assert 8 in answer.members
    assert all(3 in subset for subset in lab.asked if 8 in subset)


def test_noise_beyond_the_tolerance_is_measured_and_not_taken_for_harm() -> None:
    """The declared tolerance is too small for this job: reruns of the same state say so."""
    lab = Simulated(lambda s: 0.15 * (4 in s), sd=0.02, seed=5, parallel=2)
    answer = search(lab, 12, budget=60)
    assert answer.probability[4] >= 0.9
    assert max(p for i, p in enumerate(answer.probability) if i != 4) < 0.5


def test_the_same_evidence_asks_the_same_questions() -> None:
    labs = [Simulated(lambda s: 0.06 * (4 in s), seed=1, sd=0.001, parallel=2) for _ in range(2)]
    answers = [search(lab, 20) for lab in labs]
    assert labs[0].asked == labs[1].asked
    assert answers[0].probability == answers[1].probability


def test_one_candidate_and_none() -> None:
    assert search(Simulated(lambda s: 0.06 * (0 in s), parallel=2), 1).members == (0,)
    nothing = search(Simulated(harmless, parallel=2), 0, recorded_reference=0.95, recorded_run=0.6)
    assert nothing.ending is Ending.NOT_REPRODUCED
