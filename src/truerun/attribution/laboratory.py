"""Where subsets of changes are tried out: the edge between the reasoning of this room and the reruns of an application.

Holds no engine: `apps/tracing.py` reruns real training, tests and benchmarks simulate it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Subset = frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """
    One rerun of the project as of the reference plus the changes in `subset` (positions among the candidates).

    `value` is the metric, None where the rerun ended without one; `crashed` says that the command failed. `fingerprints`
    are equal between two runs at exactly the steps whose computation was bit-identical (empty: not watched).
    """

    subset: Subset
    value: float | None
    crashed: bool = False
    fingerprints: tuple[str, ...] = ()
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


class Laboratory(Protocol):
    """Reruns. Deterministic jobs give the same fingerprints for the same subset; `parallel` says how many run at a time."""

    @property
    def parallel(self) -> int:
        """How many subsets may be measured at the same time."""

    def measure(self, subsets: Sequence[Subset]) -> tuple[Measurement, ...]:
        """Full reruns, in the order asked. A rerun that fails is a Measurement with `crashed`, never an exception."""

    def replay(self, subsets: Sequence[Subset], steps: int) -> tuple[Measurement, ...]:
        """The first *steps* steps only; `value` is None."""


def first_difference(reference: Sequence[str], other: Sequence[str]) -> int | None:
    """The first step (from 1) at which two runs computed different things; None while nothing differs."""
    for step, (left, right) in enumerate(zip(reference, other, strict=False), start=1):
        if left != right:
            return step
    return None if len(reference) == len(other) else min(len(reference), len(other)) + 1
