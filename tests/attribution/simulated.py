"""A laboratory without training: metrics from a formula, with noise. Used by the tests and by benchmarks/bench_trace.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from truerun.attribution.laboratory import Measurement, Subset


class Simulated:
    """`effect(subset)` is how much worse *subset* is; noise is Gaussian with *sd*; inert changes never show in a replay."""

    def __init__(
        self,
        effect: Callable[[Subset], float],
        *,
        sd: float = 0.0,
        seed: int = 0,
        level: float = 0.95,
        parallel: int = 1,
        crashes: Callable[[Subset], bool] | None = None,
        inert: frozenset[int] = frozenset(),
        late: frozenset[int] = frozenset(),
    ) -> None:
        self.effect, self.sd, self.level, self.parallel = effect, sd, level, parallel
        self.crashes, self.inert, self.late = crashes, inert, late
        self.generator = np.random.default_rng(seed)
        self.asked: list[Subset] = []
        self.replayed: list[Subset] = []

    def measure(self, subsets: Sequence[Subset]) -> tuple[Measurement, ...]:
        self.asked += subsets
        return tuple(self._one(subset) for subset in subsets)

    def _one(self, subset: Subset) -> Measurement:
        if self.crashes is not None and self.crashes(subset):
            return Measurement(subset=subset, value=None, crashed=True, reason="exit 1")
        value = self.level - self.effect(subset) + self.sd * float(self.generator.standard_normal())
        return Measurement(subset=subset, value=value, fingerprints=self._steps(subset, 60))

    def replay(self, subsets: Sequence[Subset], steps: int) -> tuple[Measurement, ...]:
        self.replayed += subsets
        return tuple(Measurement(subset=s, value=None, fingerprints=self._steps(s, steps)) for s in subsets)

    def _steps(self, subset: Subset, steps: int) -> tuple[str, ...]:
        early = sorted(subset - self.inert - self.late)
        late = sorted(subset & self.late)
        return tuple(f"{step}:{early if step >= 2 else []}:{late if step >= 50 else []}" for step in range(1, steps + 1))
