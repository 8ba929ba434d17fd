"""What an update rule calculates with: the numbers it depends on, the coordinates it works on, and what it expects of them.

Decoupled: the state is predicted from the gradient, the parameter from the state that the step actually left behind, so
that errors do not add up. Only the fused kernels in half precision go on with the state they had before storing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truerun.monitoring.observation import Numbers
from truerun.monitoring.update_rules.interval import (
    SLACK,
    Arithmetic,
    Interval,
    Term,
    negative,
    point,
    to_bfloat16,
    to_float16,
)

SINGLE, DOUBLE = np.finfo(np.float32), np.finfo(np.float64)
HALF = {"bfloat16": to_bfloat16, "float16": to_float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """The numbers an update depends on; what a rule does not use is left at its default. `lr` may be an interval."""

    lr: Any
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False
    maximize: bool = False
    decoupled: bool = False
    alpha: float = 0.99
    centered: bool = False
    rho: float = 0.9
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    momentum_decay: float = 0.0
    lambd: float = 0.0
    t0: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    Coordinates of one parameter group at one step, all of one type of number, each array (n,).

    `count` is the step number the rule counts with (1 for the first), `fresh` marks coordinates without state before;
    `how` is the implementation: `single`, `foreach` or `fused`; `tensors` says that it computes its scalars as float32
    tensors. Gradients are divided by `scale` inside the step. A gradient that is a sum of `summands` (sparse gradients
    repeat rows, sparse momentum collects them) may be added in any order; `reach` is then the sum of their magnitudes.
    """

    p: Numbers
    gradient: Numbers
    before: Mapping[str, Numbers]
    after: Mapping[str, Numbers]
    count: Numbers
    fresh: Any
    type: str = "float32"
    how: str = "single"
    tensors: bool = False
    scale: float = 1.0
    summands: Numbers | None = None
    reach: Numbers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Where each value may lie after the step, by name; `p` is the parameter."""

    values: Mapping[str, Interval]


@dataclass(slots=True)
class Calculation:
    """One rule at work on one situation. `do` has the operations on tensors, `scalar` those on the rule's scalars."""

    here: Situation
    do: Arithmetic
    scalar: Arithmetic
    expected: dict[str, Interval] = field(default_factory=dict)

    @property
    def p(self) -> Interval:
        """The parameter before the step."""
        return self.summed(point(self.here.p), np.abs(self.here.p))

    @property
    def foreach(self) -> bool:
        """Whether the foreach implementation is at work; only half precision can tell."""
        return self.here.how == "foreach"

    def gradient(self, numbers: Hyperparameters, *, decay: bool = True) -> Interval:
        """The gradient as it enters: unscaled, negated to maximize, with weight decay added when *decay*."""
        given = self.summed(point(self.here.gradient), self.here.reach)
        entering = self.do.divide(given, self.here.scale) if self.here.scale != 1 else given
        entering = negative(entering) if numbers.maximize else entering
        if decay and numbers.weight_decay:
            return self.do.add(entering, self.p, numbers.weight_decay)
        return entering

    def old(self, name: str, initial: Term = 0.0) -> Interval:
        """State *name* before the step; *initial* where there was none."""
        values, start = self.here.before.get(name), point(initial)
        if values is None:
            return Interval(start.low + np.zeros_like(self.here.p), start.high + np.zeros_like(self.here.p))
        if not np.any(self.here.fresh):
            return point(values)
        return Interval(np.where(self.here.fresh, start.low, values), np.where(self.here.fresh, start.high, values))

    def settle(self, name: str, value: Interval, *, scalar: bool = False) -> Interval:
        """Expect *value* of *name* after the step; returns what the rule goes on with. A *scalar* is kept in float32 or float64."""
        self.expected[name] = value if scalar else self.do.stored(value)
        after = self.here.after.get(name)
        return value if after is None or not self.do.stepwise else point(after)

    def summed(self, value: Interval, reach: Numbers | None = None) -> Interval:
        """*value*, when it is added up of sparse entries in an unknown order whose magnitudes come to *reach*."""
        reach = self.here.reach if reach is None else reach
        if self.here.summands is None or reach is None:
            return value
        error = self.do.eps * np.maximum(self.here.summands - 1, 0) * reach
        return Interval(value.low - error, value.high + error)


def arithmetic_of(kind: str, how: str, widened: float = 1.0) -> Arithmetic:
    """How numbers of type *kind* are computed by implementation *how*, with tolerances *widened*."""
    slack = SLACK * widened
    if kind in HALF:
        return Arithmetic(float(SINGLE.eps), float(SINGLE.tiny), HALF[kind], how=how, slack=slack)
    precision = DOUBLE if kind == "float64" else SINGLE
    return Arithmetic(float(precision.eps), float(precision.tiny), slack=slack)


EXACT = Arithmetic(0.0, 0.0)
