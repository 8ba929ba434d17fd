"""A loss that jumps far out of its own recent values for a moment: a bad batch, a bad learning rate, a fault in the numbers.

Robust: the distance from the median of the last values in units of their spread (median absolute deviation, as Huber 1981
has it), on the logarithm where the loss is positive. A run with a habit of jumping has to outdo its habit, and a jump that
is small beside where training began is nothing. Needs no earlier run; says nothing of a slow change (`curve-drift`).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="metric-spike",
    summary="the loss jumped far out of its recent values",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
)
RECENT = 64
FEWEST = 100
DEVIATIONS = 10.0
BEYOND_HABIT = 2.0
OF_THE_BEGINNING = 0.1
SMALLEST = 1e-12


class SpikeWatch:
    """Follows one series of values from step to step."""

    def __init__(self, name: str, rank: int) -> None:
        self.name = name
        self.rank = rank
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._first: list[float] = []
        self._seen = 0
        self._habit = 0.0
        self._positive = True
        self._middle = self._spread = 0.0

    def check(self, value: float, step: int) -> tuple[Finding, ...]:
        """A finding when *value* at *step* is a spike."""
        if not math.isfinite(value):
            return ()
        self._positive = self._positive and value > 0
        if len(self._first) < RECENT:
            self._first.append(abs(value))
        self._seen += 1
        # Median and spread of many values move slowly: every eighth step is often enough.
        if self._seen % 8 == 0 or self._seen == FEWEST:
            self._measure()
        found = self._judge(value, step) if self._seen > FEWEST else ()
        self._recent.append(value)
        return found

    def _judge(self, value: float, step: int) -> tuple[Finding, ...]:
        rise = self._scaled(value) - self._middle
        deviations = rise / self._spread
        if deviations <= max(DEVIATIONS, BEYOND_HABIT * self._habit):
            self._habit = max(self._habit, deviations)
            return ()
        self._habit = max(self._habit, deviations / BEYOND_HABIT)
        usual = math.exp(self._middle) if self._positive else self._middle
        if value - usual < OF_THE_BEGINNING * float(np.median(self._first)):
            return ()
        return (
            RULE.finding(
                Subject(kind="run", name=self.name),
                f"{self.name} jumped to {value:.4g} at step {step}; around it, {usual:.4g} is usual "
                f"({deviations:.0f} times the usual spread).",
                evidence={"observed": value, "usual": usual, "deviations": round(deviations, 1)},
                location=Location(step=step, rank=self.rank),
                remedy="look at the batch of that step, and whether gradients are clipped; if it does not come back, go back to "
                "a checkpoint from before",
            ),
        )

    def _scaled(self, value: float) -> float:
        return math.log(max(value, SMALLEST)) if self._positive else value

    def _measure(self) -> None:
        if not self._recent:
            return
        values = np.array(self._recent)
        scaled = np.log(np.maximum(values, SMALLEST)) if self._positive else values
        self._middle = float(np.median(scaled))
        spread = 1.4826 * float(np.median(np.abs(scaled - self._middle)))
        self._spread = max(spread, 0.02 if self._positive else 0.02 * abs(self._middle), 1e-9)
