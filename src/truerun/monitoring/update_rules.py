"""What SGD, Adam and AdamW make of a gradient, in float64, with the error a float32 (or float64) computation may have.

Follows the documented algorithms of torch.optim (the pseudo-code in the docstrings of SGD, Adam and AdamW; Kingma & Ba,
arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101). Decoupled: the state is predicted from the gradient, the parameter
from the state that the step actually left behind, so that each tolerance stays at a few units in the last place:
4 eps (|p| + 2 |update|) for parameters, 4 eps (|old| + |g| + wd |p|) for state. The last term matters: it covers the
cancellation in g + wd p.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from truerun.monitoring.observation import Numbers

SLACK = 4.0
DOUBLE = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """The numbers an update depends on; what a rule does not use is left at its default."""

    lr: float
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    Coordinates of one parameter group at one step, each array (n,).

    `count` is the step number the rule counts with (1 for the first), `fresh` marks coordinates without state before,
    `eps` the relative and `tiny` the absolute precision of the numbers' type.
    """

    p: Numbers
    gradient: Numbers
    before: Mapping[str, Numbers]
    after: Mapping[str, Numbers]
    count: Numbers
    fresh: Any
    eps: Numbers
    tiny: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should be there after the step and how far rounding may take it: (value, tolerance) by name; `p` is the parameter."""

    values: Mapping[str, tuple[Numbers, Numbers]]
    update: Numbers
    start: Numbers = field(default_factory=lambda: np.zeros(0))


def read_hyperparameters(rule: str, group: Mapping[str, Any]) -> Hyperparameters:
    """The hyperparameters of a live parameter group; raises KeyError or TypeError when it is not one of *rule*."""
    common: dict[str, Any] = {
        "lr": float(group["lr"]),
        "weight_decay": float(group["weight_decay"]),
        "maximize": bool(group.get("maximize", False)),
    }
    if rule == "SGD":
        return Hyperparameters(
            **common,
            momentum=float(group["momentum"]),
            dampening=float(group["dampening"]),
            nesterov=bool(group["nesterov"]),
        )
    return Hyperparameters(
        **common,
        beta1=float(group["betas"][0]),
        beta2=float(group["betas"][1]),
        eps=float(group["eps"]),
        amsgrad=bool(group.get("amsgrad", False)),
        decoupled=bool(group.get("decoupled_weight_decay", rule == "AdamW")),
    )


def expect_update(rule: str, numbers: Hyperparameters, here: Situation) -> Expectation:
    """What *rule* makes of *here*; floating-point exceptions are values (inf, nan), not errors."""
    with np.errstate(all="ignore"):
        return _sgd(numbers, here) if rule == "SGD" else _adam(numbers, here)


def _tolerance(here: Situation, scale: Numbers) -> Numbers:
    result: Numbers = SLACK * here.eps * scale + 4 * here.tiny
    return result


def _sgd(numbers: Hyperparameters, here: Situation) -> Expectation:
    gradient = -here.gradient if numbers.maximize else here.gradient
    size = np.abs(gradient) + numbers.weight_decay * np.abs(here.p)
    gradient = gradient + numbers.weight_decay * here.p
    values: dict[str, tuple[Numbers, Numbers]] = {}
    direction, reach = gradient, size
    if numbers.momentum:
        old = here.before.get("momentum_buffer", np.zeros_like(here.p))
        grown = numbers.momentum * old + (1 - numbers.dampening) * gradient
        buffer = np.where(here.fresh, gradient, grown)
        values["momentum_buffer"] = (buffer, _tolerance(here, np.abs(old) + size))
        actual = here.after.get("momentum_buffer", buffer)
        direction = gradient + numbers.momentum * actual if numbers.nesterov else actual
        reach = size + numbers.momentum * np.abs(actual) if numbers.nesterov else np.abs(actual)
    update = numbers.lr * direction
    values["p"] = (here.p - update, _tolerance(here, np.abs(here.p) + 2 * abs(numbers.lr) * reach))
    return Expectation(values=values, update=update, start=here.p)


def _adam(numbers: Hyperparameters, here: Situation) -> Expectation:
    gradient = -here.gradient if numbers.maximize else here.gradient
    decay = numbers.weight_decay
    size = np.abs(gradient) + (0.0 if numbers.decoupled else decay) * np.abs(here.p)
    start = here.p * (1 - numbers.lr * decay) if numbers.decoupled else here.p
    if decay and not numbers.decoupled:
        gradient = gradient + decay * here.p
    nothing = np.zeros_like(here.p)
    old_first, old_second = here.before.get("exp_avg", nothing), here.before.get("exp_avg_sq", nothing)
    first = numbers.beta1 * old_first + (1 - numbers.beta1) * gradient
    second = numbers.beta2 * old_second + (1 - numbers.beta2) * gradient * gradient
    values = {
        "exp_avg": (first, _tolerance(here, np.abs(old_first) + size)),
        "exp_avg_sq": (second, _tolerance(here, old_second + size * size)),
    }
    actual_first, actual_second = here.after.get("exp_avg", first), here.after.get("exp_avg_sq", second)
    if numbers.amsgrad:
        largest = np.maximum(here.before.get("max_exp_avg_sq", nothing), actual_second)
        values["max_exp_avg_sq"] = (largest, _tolerance(here, largest))
        actual_second = here.after.get("max_exp_avg_sq", largest)
    bias_first, bias_second = 1 - numbers.beta1**here.count, 1 - numbers.beta2**here.count
    update = numbers.lr / bias_first * actual_first / (np.sqrt(np.maximum(actual_second, 0)) / np.sqrt(bias_second) + numbers.eps)
    # The bias corrections are float64 on both sides, with errors that 1 - beta^t makes large while it is small.
    biased = SLACK * DOUBLE * np.abs(update) * (1 / bias_first + 1 / bias_second)
    values["p"] = (start - update, _tolerance(here, np.abs(here.p) + 2 * np.abs(update)) + biased)
    return Expectation(values=values, update=update, start=start)


def altered(numbers: Hyperparameters, **changes: Any) -> Hyperparameters:
    """*numbers* with some of them different, to try out an explanation."""
    return replace(numbers, **changes)
