"""Where the time of each step went, and the last steps of one optimizer side by side: which of them waited longer than usual.

What counts is *waiting*: wall time minus processor time minus time in the queue for a processor. A machine that is busy
with other work makes steps slow through the queue and through slower arithmetic, not through waiting, so most of its
noise is not even in the numbers. What remains (threads of a parallel operation that queue while the main thread waits for
them, disks, other ranks) is why numbers alone never convict: see `slow_step`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from truerun.monitoring.observation import Numbers

PHASES = ("data", "forward", "backward", "optimizer", "other")
WARM_UP_STEPS = 3
MIN_STEPS = 8
WINDOW_STEPS = 50
HABIT_STEPS = 200
REFRESH_STEPS = 20
LONG_SECONDS = 0.003
LONG_SHARE = 0.5
MANY = 3
LOST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """
    One step: `wall` and `waited` seconds in each of PHASES, `computed` seconds on a processor, `queued` in the queue for one.

    `queued` is None where the system does not say; then `waited` holds it.
    """

    step: int
    wall: tuple[float, ...]
    waited: tuple[float, ...]
    computed: float
    queued: float | None


def parse_step_time(step: int, shown: Mapping[str, Any]) -> StepTime:
    """What the probe's sense of time put into a row; raises KeyError, TypeError or ValueError for what is not that."""
    wall = tuple(max(0.0, float(value) * 1e-6) for value in shown["w"])
    waited = tuple(max(0.0, float(value) * 1e-6) for value in shown["i"])
    if len(wall) != len(PHASES) or len(waited) != len(PHASES):
        raise ValueError("not the time of a step")
    computed = max(0.0, float(shown["c"]) * 1e-6)
    queued = None if shown["q"] is None else max(0.0, float(shown["q"]) * 1e-6)
    return StepTime(step=step, wall=wall, waited=waited, computed=computed, queued=queued)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """
    Steps of late that waited longer than is usual in this run.

    `steps` are those, `seconds` what they lost together, `share` of the time of all steps looked at; `phase` is where most
    of it was lost. `regular` says that they follow one another at one distance of more than a step, as a checkpoint or an
    evaluation does.
    """

    steps: tuple[int, ...]
    seconds: float
    share: float
    phase: str
    regular: bool

    @property
    def worst_seconds(self) -> float:
        """What one of them lost, on average."""
        return self.seconds / len(self.steps)


class StepTimes:
    """The latest steps of one optimizer in one process, oldest first."""

    def __init__(self) -> None:
        self._times: deque[StepTime] = deque(maxlen=HABIT_STEPS)
        self.steps = 0
        self.longest_seconds = 0.0
        self._usual = (0.0, 0.0)

    def add(self, time: StepTime) -> bool:
        """One more step; True when it waited long. The first few, which warm up, do not count."""
        self.steps += 1
        if self.steps <= WARM_UP_STEPS:
            return False
        self._times.append(time)
        self.longest_seconds = max(self.longest_seconds, sum(time.wall))
        if self.steps % REFRESH_STEPS == 0 or len(self._times) == MIN_STEPS:
            self._usual = float(np.median(self._table("waited").sum(1))), self.usual_seconds
        waited, wall = self._usual
        return sum(time.waited) - waited > max(LONG_SECONDS, LONG_SHARE * wall)

    @property
    def usual_seconds(self) -> float:
        """The median length of a step, 0 before there is one."""
        return float(np.median(self._table("wall").sum(1))) if self._times else 0.0

    def lost(self) -> Lost | None:
        """The steps among the last WINDOW_STEPS that waited longer than usual, when they are many enough to matter."""
        if len(self._times) < MIN_STEPS:
            return None
        waited, wall = self._table("waited"), self._table("wall").sum(1)
        excess = np.maximum(0.0, waited - np.median(waited, axis=0))[-WINDOW_STEPS:]
        usual = float(np.median(wall))
        long = excess.sum(1) > max(LONG_SECONDS, LONG_SHARE * usual)
        share = float(excess[long].sum() / max(1e-9, wall[-WINDOW_STEPS:].sum()))
        if long.sum() < MANY or share < LOST_SHARE:
            return None
        found = [time.step for time, is_long in zip(list(self._times)[-WINDOW_STEPS:], long, strict=True) if is_long]
        return Lost(
            steps=tuple(found),
            seconds=float(excess[long].sum()),
            share=share,
            phase=PHASES[int(excess[long].sum(0).argmax())],
            regular=_is_regular(found),
        )

    def typical(self) -> dict[str, Any]:
        """Median seconds a step: computed, and by phase waited. What a later run is compared with."""
        if len(self._times) < MIN_STEPS:
            return {}
        computed = float(np.median([time.computed for time in self._times]))
        waited = np.median(self._table("waited"), axis=0)
        return {
            "steps": self.steps,
            "computed": round(computed, 6),
            "waited": {phase: round(float(value), 6) for phase, value in zip(PHASES, waited, strict=True)},
        }

    def _table(self, name: str) -> Numbers:
        return np.array([getattr(time, name) for time in self._times], dtype=np.float64)


def _is_regular(steps: Sequence[int]) -> bool:
    distances = {later - earlier for earlier, later in itertools.pairwise(steps)}
    return len(distances) == 1 and distances != {1}
