"""A loss that fell and is now above where it began, for long: what was learned has been undone.

Needs no earlier run. Speaks of positive losses of programs with one optimizer; the two sides of a game (GAN) and losses
that are weighted by a growing reward rise for good reasons. A loss that never fell has to grow twenty times. Cannot see a
change that stays below the beginning (`curve-drift`) or values that are no numbers (`metric-not-finite`).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="metric-diverging",
    summary="the loss fell, and has been above its beginning for long",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
)
BEGINNING = 16
LONG = 64
FELL = 0.7
ABOVE = 1.5
BLOWN_UP = 20.0
EVERY = 16


class DivergenceWatch:
    """Follows one series of values from step to step; tells once."""

    def __init__(self, name: str, rank: int) -> None:
        self.name = name
        self.rank = rank
        self.told = False
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=LONG)
        self._best = math.inf
        self._seen = 0

    def check(self, value: float, step: int) -> tuple[Finding, ...]:
        """A finding when the loss has been far above its beginning over the last LONG values up to *step*."""
        if self.told or not math.isfinite(value):
            return ()
        self._seen += 1
        self._recent.append(value)
        if len(self._first) < BEGINNING:
            self._first.append(value)
        if self._seen % EVERY or len(self._recent) < LONG:
            return ()
        values = np.array(self._recent)
        begun, now, lowest = float(np.median(self._first)), float(np.median(values)), float(np.quantile(values, 0.1))
        self._best = min(self._best, now)
        above = ABOVE if self._best < FELL * begun else BLOWN_UP
        if begun <= 0 or min(values) <= 0 or lowest < above * begun:
            return ()
        self.told = True
        fell = f"fell from {begun:.4g} to {self._best:.4g} and" if self._best < begun else f"began at {begun:.4g} and"
        return (
            RULE.finding(
                Subject(kind="run", name=self.name),
                f"{self.name} {fell} has been at {now:.4g} or so for the last {LONG} values up to step {step}: training diverges.",
                evidence={"begun": begun, "lowest": self._best, "observed": now},
                location=Location(step=step, rank=self.rank),
                remedy="go back to a checkpoint from before the rise; look at the learning rate and at what changed there",
            ),
        )
