"""A curve that leaves the healthy curves of its program: it changes within the run, or lies elsewhere from the start.

Compares block means of the loss, or of a reported metric, with those of earlier admitted runs that passed
(`healthy_curves`), and says from which step on they differ. A change within the run is told by an e-process
(`change_evidence`), false in at most ALPHA of healthy curves; a level that is off from the start by Student's t, false in
at most LEVEL_ALPHA. Both rest on three healthy runs at least, which show how healthy runs differ; with fewer, a change is a
hint without a rate. A fault that all of them share is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.change_evidence import ALPHA, Change
from truerun.monitoring.healthy_curves import HealthyModel
from truerun.monitoring.observation import Numbers

RULE = Rule(
    id="curve-drift",
    summary="the loss or a metric left the curves of healthy runs",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
)
LEVEL_ALPHA = 0.001
LOOKS = (8, 4, 2, 1)
# Two-sided quantiles of Student's t at LEVEL_ALPHA / len(LOOKS), by degrees of freedom.
QUANTILES = {2: 63.2, 3: 20.6, 4: 12.3, 5: 9.2, 6: 7.7, 7: 6.8, 8: 6.2}
ENOUGH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Which curve is told of: its name and rank, the healthy runs in words, whether data and configuration are theirs, too."""

    name: str
    rank: int
    source: str
    same_lock: bool


def check_change(model: HealthyModel, change: Change, starts: Sequence[int], told: Told, event: str = "") -> tuple[Finding, ...]:
    """The finding for a *change*; *starts* holds the step at which each block begins, *event* what was recorded at the onset."""
    onset, earliest, told_at = starts[change.block], starts[change.earliest], starts[change.at + 1] - 1
    latest = starts[change.latest + 1] - 1
    return (
        RULE.finding(
            Subject(kind="run", name=told.name),
            f"{told.name} left the healthy curves at about step {onset} (between steps {earliest} and {latest}): "
            f"{_shift(model, change.shift)} than before, against {told.source}. Told at step {told_at}"
            f"{_rate(model, ALPHA)}.{event and f' {event}'}{_doubt(model, told)}",
            evidence={
                "shift": round(change.shift, 6),
                "relative": model.logarithmic,
                "earliest": earliest,
                "latest": latest,
                "told_at": told_at,
                "healthy_runs": model.runs,
                "false_alarms": ALPHA if model.runs >= ENOUGH else None,
                "e_value": float(f"{min(change.evidence, 1e300):.3g}"),
            },
            location=Location(step=onset, rank=told.rank),
            severity=_severity(model, told),
            confidence=_confidence(model, told),
            remedy="look at what changed at that step (data, code, configuration); truerun trace RUN looks for it",
        ),
    )


def check_level(model: HealthyModel, means: Numbers, step: int, told: Told) -> tuple[Finding, ...]:
    """
    A finding when the mean of the latest half of *means*, which reach up to *step*, is not where the healthy curves are.

    Has an answer only when an eighth, a quarter, half or all of the run's usual blocks have come, and with three healthy
    runs at least: fewer do not show how far apart healthy runs lie.
    """
    blocks = len(means)
    if blocks not in {len(model.trend) // part for part in LOOKS} or model.runs < ENOUGH:
        return ()
    half = slice(blocks // 2, blocks)
    healthy, own = np.nanmean(model.curves[:, half], axis=1), means[half]
    if not np.isfinite(own).any():
        return ()
    between = float(np.std(healthy, ddof=1)) ** 2 + float(np.mean(model.noise[half])) / (blocks - blocks // 2)
    shift = float(np.nanmean(own) - np.mean(healthy))
    distance = abs(shift) / math.sqrt(between * (1 + 1 / model.runs))
    if distance < QUANTILES[min(model.runs - 1, max(QUANTILES))]:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=told.name, key="level"),
            f"{told.name} is {_shift(model, shift)} than it was in {told.source} up to step {step}: {distance:.0f} times as far "
            f"as healthy runs lie apart{_rate(model, LEVEL_ALPHA)}.{_doubt(model, told)}",
            evidence={"shift": round(shift, 6), "relative": model.logarithmic, "distance": round(distance, 1)}
            | {"healthy_runs": model.runs, "false_alarms": LEVEL_ALPHA, "term": "level"},
            location=Location(step=step, rank=told.rank),
            severity=_severity(model, told),
            confidence=_confidence(model, told),
            remedy="compare this run's data, code, configuration and machine with the healthy runs'; truerun diff shows the first three",
        ),
    )


def _shift(model: HealthyModel, shift: float) -> str:
    side = "higher" if shift > 0 else "lower"
    return f"{abs(math.expm1(shift)):.1%} {side}" if model.logarithmic else f"{abs(shift):.3g} {side}"


def _rate(model: HealthyModel, alpha: float) -> str:
    return f"; at most {alpha:.1%} of healthy curves are told of by mistake" if model.runs >= ENOUGH else ""


def _severity(model: HealthyModel, told: Told) -> Severity:
    return RULE.severity if model.runs >= ENOUGH and told.same_lock else Severity.NOTE


def _doubt(model: HealthyModel, told: Told) -> str:
    doubts = [] if told.same_lock else ["data or configuration changed since, which may explain it"]
    if model.runs < ENOUGH:
        doubts.append(
            f"{model.runs} healthy run{'s say' if model.runs > 1 else ' says'} little of how healthy runs differ: this is a hint"
        )
    return f" Mind: {'; '.join(doubts)}." if doubts else ""


def _confidence(model: HealthyModel, told: Told) -> Confidence:
    return Confidence.MEDIUM if model.runs >= ENOUGH and told.same_lock else Confidence.LOW
