"""Rule curve-drift."""

from __future__ import annotations

import numpy as np
import pytest

from truerun.core.finding import Confidence, Finding, Severity
from truerun.monitoring.block_means import BlockMeans, Curve
from truerun.monitoring.change_evidence import ALPHA, Change, ChangeEvidence
from truerun.monitoring.curve_drift import Told, check_change, check_level
from truerun.monitoring.healthy_curves import HealthyModel, fit

STEPS = 4000
ONSET = 2000
TREND = np.log(2.3 * np.arange(1, STEPS + 1) ** -0.3 + 0.2)
TOLD = Told(name="loss", rank=0, source="6 healthy runs", same_lock=True)


def healthy(seed: int, kind: str = "normal", noise: float = 0.03) -> np.ndarray:
    """The logarithm of a loss that falls as losses do, with noise of one kind and a level of its own."""
    random = np.random.default_rng(seed)
    drawn = random.standard_normal(STEPS)
    if kind == "heavy":
        drawn = random.standard_t(3, STEPS) / np.sqrt(3)
    if kind == "correlated":
        for i in range(1, STEPS):
            drawn[i] = 0.9 * drawn[i - 1] + np.sqrt(0.19) * drawn[i]
    if kind == "growing":
        drawn *= np.linspace(0.3, 2, STEPS)
    if kind == "skewed":
        drawn = random.exponential(1, STEPS) - 1
    return TREND + noise * drawn + 0.1 * noise * random.standard_normal()


def curve(values: np.ndarray) -> Curve:
    blocks = BlockMeans(most=128, logarithmic=True)
    for place, value in enumerate(np.exp(values), start=1):
        blocks.add(place, float(value))
    return blocks.curve(len(values))


def model_of(seeds: range, kind: str = "normal") -> HealthyModel:
    model = fit([curve(healthy(seed, kind)) for seed in seeds])
    assert model is not None
    return model


def judge(model: HealthyModel, values: np.ndarray, anchor: int | None = None) -> tuple[Finding, ...]:
    """All findings of both kinds over the whole curve."""
    evidence = ChangeEvidence(model)
    if anchor is not None:
        evidence.anchor((anchor - 1) // model.size)
    starts = [block * model.size + 1 for block in range(len(model.trend) + 1)]
    means = values[: len(model.trend) * model.size].reshape(-1, model.size).mean(axis=1)
    found: tuple[Finding, ...] = ()
    for block, mean in enumerate(means):
        change = evidence.take(float(mean))
        if change is not None:
            found += check_change(model, change, starts, TOLD)
        found += check_level(model, means[: block + 1], starts[block + 1] - 1, TOLD)
    return found


@pytest.fixture(scope="module")
def six() -> HealthyModel:
    return model_of(range(6))


@pytest.mark.parametrize(("degraded", "within"), [(0.01, 1500), (0.02, 600), (0.05, 200)])
def test_slow_degradation_below_every_spike(six: HealthyModel, degraded: float, within: int) -> None:
    """From step 2001 on the loss is one, two or five percent worse, in noise of three percent: told, and the onset named."""
    found = 0
    for seed in range(100, 105):
        values = healthy(seed)
        values[ONSET:] += np.log1p(degraded)
        told = [finding for finding in judge(six, values) if finding.evidence.get("term") != "level"]
        found += bool(told) and told[0].evidence["told_at"] - ONSET < within
        for finding in told:
            assert abs(finding.location.step - ONSET) < 15 * six.size
            assert finding.severity is Severity.WARNING
            assert finding.confidence is Confidence.MEDIUM
            assert finding.evidence["shift"] == pytest.approx(np.log1p(degraded), rel=0.7)
    assert found >= 3


def test_slow_ramp(six: HealthyModel) -> None:
    """The loss gets worse by a twentieth of a percent every ten steps: no single step shows it."""
    values = healthy(200)
    values[ONSET:] += np.minimum(np.arange(STEPS - ONSET) / 1000, 1) * 0.05
    (finding, *_) = judge(six, values)
    assert ONSET - 200 < finding.location.step < ONSET + 600


@pytest.mark.parametrize("kind", ["normal", "heavy", "correlated", "growing", "skewed"])
def test_healthy_runs_are_left_alone(kind: str) -> None:
    """The accept twin: noise of every kind, each judged by models of two, three and six runs of its kind; none is told of."""
    for runs in (2, 3, 6):
        model = model_of(range(runs), kind)
        assert [judge(model, healthy(seed, kind)) for seed in range(300, 303)] == [()] * 3


def test_worse_from_the_first_step(six: HealthyModel) -> None:
    """Five percent worse from the start (labels flipped, say): no change within the run, but not where healthy runs are."""
    (finding, *_) = judge(six, healthy(400) + 0.05)
    assert finding.subject.key == "level"
    assert "% higher" in finding.message


def test_runs_with_one_seed_count_once() -> None:
    """Three runs with the same seed are the same run three times: nothing is known of how runs differ, and confidence says so."""
    same = curve(healthy(0))
    model = fit([same, same, same])
    assert model is not None
    assert model.runs == 1
    change = Change(block=60, earliest=58, latest=62, shift=0.1, at=70, evidence=1e4, anchored=False)
    (finding,) = check_change(model, change, range(1, STEPS, model.size), TOLD)
    assert (finding.severity, finding.confidence) == (Severity.NOTE, Confidence.LOW)
    assert "by mistake" not in finding.message
    assert "1 healthy run says little" in finding.message


def test_recorded_event_is_looked_at_closer(six: HealthyModel) -> None:
    """The same two percent are told sooner where something was recorded at that step."""
    values = healthy(101)
    values[ONSET:] += 0.015
    (alone, *_), (helped, *_) = judge(six, values), judge(six, values, anchor=ONSET + 1)
    assert helped.evidence["told_at"] <= alone.evidence["told_at"]
    assert abs(helped.location.step - ONSET) <= six.size


def test_changed_lock_explains() -> None:
    """Data or configuration were changed and approved: a note at most, with low confidence."""
    model = model_of(range(3))
    evidence = ChangeEvidence(model)
    starts = [block * model.size + 1 for block in range(len(model.trend) + 1)]
    values = healthy(9)
    values[ONSET:] += 0.2
    for mean in values.reshape(-1, model.size).mean(axis=1):
        change = evidence.take(float(mean))
        if change is not None:
            told = Told(name="loss", rank=0, source="3 healthy runs", same_lock=False)
            (finding,) = check_change(model, change, starts, told)
            assert (finding.severity, finding.confidence) == (Severity.NOTE, Confidence.LOW)
            return
    pytest.fail("a change of 20 % was not told")


def test_curves_that_do_not_belong_together() -> None:
    """Too short, or one positive and one not: no model, no judgement."""
    assert fit([]) is None
    assert fit([Curve(size=1, logarithmic=True, means=np.zeros(5))]) is None
    assert fit([Curve(size=1, logarithmic=flag, means=np.zeros(50)) for flag in (True, False)]) is None


def test_few_losses_are_read() -> None:
    """On a GPU one loss in a dozen is read, at steps drawn by chance: blocks get larger, five percent are seen all the same."""

    def sparse(seed: int, worse: float = 0.0) -> Curve:
        random, blocks = np.random.default_rng(seed), BlockMeans(most=128, logarithmic=True)
        values = healthy(seed)
        values[ONSET:] += worse
        for place in np.flatnonzero(random.random(STEPS) < 1 / 12) + 1:
            blocks.add(int(place), float(np.exp(values[place - 1])))
        return blocks.curve(STEPS)

    model = fit([sparse(seed) for seed in range(6)])
    assert model is not None
    told = []
    for seed, worse in ((50, 0.0), (51, 0.0), (52, 0.08)):
        evidence = ChangeEvidence(model)
        told.append(any(evidence.take(float(mean)) is not None for mean in sparse(seed, worse).coarsened(model.size).means))
    assert told == [False, False, True]


def test_flat_curves_are_no_evidence() -> None:
    """A metric that never moves has no noise at all; rounding is not told of."""
    flat = fit([Curve(size=1, logarithmic=False, means=np.full(64, 0.5) + 1e-7 * k) for k in range(3)])
    assert flat is not None
    evidence = ChangeEvidence(flat)
    assert all(evidence.take(0.5 + 1e-6) is None for _ in range(64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "heavy", "correlated", "growing", "skewed"])
def test_false_alarms_stay_below_what_is_stated(kind: str) -> None:
    """Of 300 healthy curves, each beside three healthy ones drawn anew, no more than a binomial with the stated rate allows."""
    told = 0
    for trial in range(100):
        model = model_of(range(1000 * trial, 1000 * trial + 3), kind)
        told += sum(bool(judge(model, healthy(1000 * trial + 500 + k, kind))) for k in range(3))
    assert told <= 5, f"expected at most {300 * (ALPHA + 0.001):.1f} on average"
