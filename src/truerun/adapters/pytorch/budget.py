"""How much watching may cost: a share of the time since the first step, plus a small credit so that short runs are seen whole.

Costs are measured, not assumed: the probe times itself with the wall clock and the agent reports its own CPU time a sample.
Each sense's part is kept by its name; what is not a sense's is the update's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

CREDIT_SECONDS = 0.25
FULL_STEPS = 5


class Budget:
    """Keeps the probe inside `share` of the run time; `every` (1 = each step) overrides it."""

    def __init__(self, share: float, every: int | None) -> None:
        self.share = share
        self.every = every
        self.spent_seconds = 0.0
        self.spent_by: defaultdict[str, float] = defaultdict(float)
        self._sample_seconds = 0.0
        self._samples = 0
        self._started: float | None = None
        self._last: float | None = None
        self._step_seconds = 0.0

    def step(self, now: float) -> None:
        """A step begins at *now* (seconds of a monotonic clock)."""
        if self._started is None:
            self._started = now
        elif self._last is not None:
            took = now - self._last
            self._step_seconds = took if not self._step_seconds else 0.9 * self._step_seconds + 0.1 * took
        self._last = now

    def sampled(self, seconds: float) -> None:
        """One full check cost *seconds*, in the probe and in the agent together."""
        self._samples += 1
        self._sample_seconds += (seconds - self._sample_seconds) / min(self._samples, 20)

    def affords(self, now: float) -> bool:
        """Whether something optional may be done now: what all senses spent so far lies below the share and the credit."""
        if self.every == 1 or self._started is None:
            return True
        return self.spent_seconds < self.share * (now - self._started) + CREDIT_SECONDS

    def spent(self) -> dict[str, Any]:
        """Seconds so far, in all and by sense, as frames carry them."""
        return {"spent": self.spent_seconds, "spent_by": {name: round(seconds, 6) for name, seconds in self.spent_by.items()}}

    def mean_gap(self, now: float) -> int:
        """Steps between two full checks, on average, that keep the cost within the share."""
        if self.every is not None:
            return max(1, self.every)
        if self._started is None or self._samples < FULL_STEPS:
            return 1
        allowed = self.share * (now - self._started) + CREDIT_SECONDS
        if self.spent_seconds < 0.5 * CREDIT_SECONDS:
            return 1
        # Half of the share is left to what is done at every step.
        fair = self._sample_seconds / max(1e-9, 0.5 * self.share * self._step_seconds)
        return max(1, min(100_000, math.ceil(fair * max(1.0, self.spent_seconds / allowed))))
