"""What an altered optimizer would have done: the explanations under which values that do not fit their rule do fit.

Each is tried against every coordinate of a parameter group, with constants estimated from the values themselves by least
squares. Where rules are linear (in the learning rate, in the gradient, in a decay rate) the rule's own function, in exact
arithmetic, gives the coefficients. In half precision an estimated learning rate is tried as an interval of its uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from truerun.monitoring.observation import Mask, Numbers
from truerun.monitoring.update_rules import (
    RULES,
    Hyperparameters,
    Interval,
    Situation,
    altered,
    expect_update,
)

FIT = 16.0  # an estimated constant carries the rounding errors of what it was estimated from
SURE = 6.0  # standard errors by which an estimate has to differ where rounding is coarse
HALF = ("bfloat16", "float16")
Explanation: TypeAlias = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Coordinates of one parameter group and type at one step: the tensors they are of, and what does not fit by name."""

    tensor: NDArray[np.int64]
    rule: str
    numbers: Hyperparameters
    here: Situation
    bad: dict[str, Mask]


def explain(part: Part) -> tuple[str, str, dict[str, Any]]:
    """The first explanation under which every coordinate of *part* fits: (term, words, numbers)."""
    for term, make in _EXPLANATIONS:
        with np.errstate(all="ignore"):
            answer = make(part)
        if answer is not None:
            words, numbers = answer
            return str(numbers.pop("term", term)), words, numbers
    parts = sorted(name for name, mask in part.bad.items() if mask.any())
    shown = ", ".join("parameters" if name == "p" else f"state {name}" for name in parts)
    worst = max(float(mask.mean()) for mask in part.bad.values())
    return "values", f"{shown} hold other values than the rule gives, at {worst:.1%} of the coordinates looked at", {}


def exact(part: Part, numbers: Hyperparameters, gradient: Numbers | None = None) -> dict[str, Numbers]:
    """What the rule gives in exact arithmetic, by name."""
    here = part.here if gradient is None else replace(part.here, gradient=gradient)
    values = expect_update(part.rule, numbers, here, widened=0.0).values
    return {name: value.middle for name, value in values.items()}


def _fits(part: Part, numbers: Hyperparameters, gradient: Numbers | None = None, only: str | None = None) -> bool:
    here = part.here if gradient is None else replace(part.here, gradient=gradient)
    return all(
        bool(np.all(value.holds(here.after[name])))
        for name, value in expect_update(part.rule, numbers, here, widened=FIT).values.items()
        if name in here.after and only in (None, name)
    )


def _ratio(part: Part, name: str, above: Numbers, below: Numbers) -> float | None:
    """Least squares c in above = c below, each coordinate of *name* weighed by how exactly it is known."""
    scale = _precision(part, name)
    above, below = above / scale, below / scale
    weight = float(np.sum(below * below))
    return float(np.sum(above * below)) / weight if weight > 0 and np.isfinite(weight) else None


def _precision(part: Part, name: str) -> Numbers:
    """How far rounding may take each coordinate of *name*."""
    if part.here.type in HALF:
        coarse: Numbers = np.ldexp(np.abs(part.here.after[name]), -8) + float(np.finfo(np.float32).tiny)
        return coarse
    value = expect_update(part.rule, part.numbers, part.here).values[name]
    wide: Numbers = value.high - value.low
    return wide


def _not_applied(part: Part) -> Explanation | None:
    before, after = part.here.before, part.here.after
    same = all(np.array_equal(values, before.get(name, values)) for name, values in after.items())
    return ("the step changed nothing: it was not applied", {}) if same else None


def _only_parameters_not_applied(part: Part) -> Explanation | None:
    stuck = part.bad.get("p")
    if stuck is None or not stuck.any() or not np.array_equal(part.here.after["p"][stuck], part.here.p[stuck]):
        return None
    whole = [tensor for tensor in np.unique(part.tensor[stuck]) if bool(np.all(stuck[part.tensor == tensor]))]
    if len(whole) < len(np.unique(part.tensor[stuck])):
        return None
    return "these parameters did not move: they are left out of the step", {}


def _reversed(part: Part) -> Explanation | None:
    if _fits(part, part.numbers, -part.here.gradient):
        return "the gradient entered with its sign reversed", {"slope": -1.0}
    return None


def _decay(part: Part) -> Explanation | None:
    declared = part.numbers.weight_decay
    if declared and _fits(part, altered(part.numbers, weight_decay=0.0)):
        return f"weight decay {declared:g} was not applied", {"declared": declared, "observed": 0.0}
    return None


def _rate(part: Part) -> Explanation | None:
    """The whole change of a parameter is proportional to lr, decoupled weight decay included."""
    lr = part.numbers.lr
    if not lr or "p" not in part.bad:
        return None
    if "eta" in part.here.after:
        return _kept_rate(part)
    moved, expected = part.here.p - part.here.after["p"], part.here.p - exact(part, part.numbers)["p"]
    slope = _ratio(part, "p", moved, expected)
    if slope is None:
        return None
    tried: Any = lr * slope
    if part.here.type in HALF:
        scale = _precision(part, "p")
        error = SURE * float(np.sqrt(np.mean(((moved - slope * expected) / scale) ** 2) / np.sum((expected / scale) ** 2)))
        if error >= abs(slope - 1):
            return None
        tried = Interval(lr * (slope - error), lr * (slope + error))
    return _other_rate(lr, slope) if _fits(part, altered(part.numbers, lr=tried)) else None


def _kept_rate(part: Part) -> Explanation | None:
    """ASGD keeps its rate as state: eta = lr / (1 + lambd lr t)^alpha."""
    found = lr = part.numbers.lr
    for _ in range(8):
        found = found * _median(part.here.after["eta"] / exact(part, altered(part.numbers, lr=found))["eta"])
    return _other_rate(lr, found / lr) if _fits(part, altered(part.numbers, lr=found)) else None


def _other_rate(lr: float, slope: float) -> Explanation:
    return f"it used lr {lr * slope:.6g} where {lr:g} is set", {"declared": lr, "observed": lr * slope, "slope": slope}


def _median(values: Numbers) -> float:
    return float(np.median(values))


def _scaled(part: Part) -> Explanation | None:
    """Around the prediction with gradient zero, some value is linear in the gradient."""
    name = next((name for name in RULES[part.rule].linear if name in part.here.after), None)
    if name is None:
        return None
    without, with_it = exact(part, part.numbers, np.zeros_like(part.here.gradient)), exact(part, part.numbers)
    factor = _ratio(part, name, part.here.after[name] - without[name], with_it[name] - without[name])
    if factor is not None and _fits(part, part.numbers, factor * part.here.gradient):
        return f"the gradient entered multiplied by {factor:.6g}", {"slope": factor}
    return None


def _coefficient(part: Part) -> Explanation | None:
    """Another decay rate of a moving average, which is linear in it."""
    for name, of in RULES[part.rule].averages:
        if not part.bad.get(of, np.zeros(0)).any():
            continue
        low, high = (exact(part, altered(part.numbers, **{name: rate}))[of] for rate in (0.25, 0.75))
        slope, declared = _ratio(part, of, part.here.after[of] - low, high - low), getattr(part.numbers, name)
        rate = None if slope is None else 0.25 + 0.5 * slope
        # The parameter depends on the rate through the bias correction too.
        if rate is None or not 0 <= rate < 1 or not _fits(part, altered(part.numbers, **{name: rate}), only=of):
            continue
        if abs(rate - declared) >= 1e-6:
            return f"it used {name} {rate:.6g} where {declared:g} is set", {"term": name, "declared": declared, "observed": rate}
    return None


def _epsilon(part: Part) -> Explanation | None:
    """Adam's update is s m / (root + eps): where the root is small, the ratio of the updates gives eps away."""
    if part.rule not in ("Adam", "AdamW") or any(part.bad[name].any() for name in part.bad if name != "p"):
        return None
    numbers, here = part.numbers, part.here
    start = here.p * (1 - numbers.lr * numbers.weight_decay) if numbers.decoupled else here.p
    moved, plain = start - here.after["p"], start - exact(part, altered(numbers, eps=0.0))["p"]
    top = numbers.lr / (1 - numbers.beta1**here.count) * here.after["exp_avg"]
    known = (np.abs(moved) > 64 * float(np.finfo(np.float32).eps) * np.abs(here.p)) & (plain != 0)
    if not known.any():
        return None
    eps = _median((top / moved - top / plain)[known])
    if eps >= 0 and abs(eps - numbers.eps) > 1e-3 * numbers.eps and _fits(part, altered(numbers, eps=eps)):
        return f"it used eps {eps:.3g} where {numbers.eps:g} is set", {"declared": numbers.eps, "observed": eps}
    return None


_EXPLANATIONS: tuple[tuple[str, Callable[[Part], Explanation | None]], ...] = (
    ("not-applied", _not_applied),
    ("sign", _reversed),
    ("weight-decay", _decay),
    ("eps", _epsilon),
    ("lr", _rate),
    ("gradient-scale", _scaled),
    ("coefficient", _coefficient),
    ("frozen", _only_parameters_not_applied),
)
