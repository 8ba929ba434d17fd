"""What the rules of torch.optim make of a gradient: one small function a rule, one table of all of them.

A rule states the operations of torch's single-tensor and foreach implementations in their order. How exactly they are
computed (in float32 or float64, or in half precision with every result rounded) is the arithmetic's business (`interval.py`),
so the same function gives the enclosure of each. For the matrix rules there is `monitoring/whole_tensor.py` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from truerun.monitoring.update_rules import gradient_sums, moments
from truerun.monitoring.update_rules.calculation import (
    DOUBLE,
    EXACT,
    SINGLE,
    Calculation,
    Expectation,
    Hyperparameters,
    Situation,
    arithmetic_of,
)
from truerun.monitoring.update_rules.interval import Arithmetic, Interval

__all__ = [
    "RULES",
    "WHOLE",
    "Expectation",
    "Hyperparameters",
    "Interval",
    "Situation",
    "UpdateRule",
    "altered",
    "expect_update",
    "read_hyperparameters",
]


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """
    One rule: what it computes and which settings it needs.

    `averages` pairs a setting with the moving average whose decay rate it is; `linear` names what is linear in the gradient,
    the first that there is counts.
    """

    compute: Callable[[Hyperparameters, Calculation], None]
    needs: tuple[str, ...]
    averages: tuple[tuple[str, str], ...] = ()
    linear: tuple[str, ...] = ()


_DECAY = ("weight_decay",)
_BETAS = (("beta1", "exp_avg"), ("beta2", "exp_avg_sq"))
_FIRST = ("exp_avg",)
RULES: dict[str, UpdateRule] = {
    "SGD": UpdateRule(
        gradient_sums.sgd,
        (*_DECAY, "momentum", "dampening", "nesterov"),
        (("momentum", "momentum_buffer"),),
        ("momentum_buffer", "p"),
    ),
    "ASGD": UpdateRule(gradient_sums.asgd, (*_DECAY, "lambd", "t0", "alpha"), (), ("p",)),
    "RMSprop": UpdateRule(
        gradient_sums.rmsprop,
        (*_DECAY, "alpha", "eps", "momentum", "centered"),
        (("alpha", "square_avg"), ("momentum", "momentum_buffer")),
        ("grad_avg",),
    ),
    "Adagrad": UpdateRule(gradient_sums.adagrad, (*_DECAY, "lr_decay", "initial_accumulator_value", "eps")),
    "Adadelta": UpdateRule(gradient_sums.adadelta, (*_DECAY, "rho", "eps"), (("rho", "square_avg"),)),
    "Adam": UpdateRule(moments.adam, (*_DECAY, "betas", "eps", "amsgrad"), _BETAS, _FIRST),
    "AdamW": UpdateRule(moments.adam, (*_DECAY, "betas", "eps", "amsgrad"), _BETAS, _FIRST),
    "SparseAdam": UpdateRule(moments.sparse_adam, ("betas", "eps"), _BETAS, _FIRST),
    "NAdam": UpdateRule(moments.nadam, (*_DECAY, "betas", "eps", "momentum_decay"), _BETAS, _FIRST),
    "RAdam": UpdateRule(moments.radam, (*_DECAY, "betas", "eps"), _BETAS, _FIRST),
    "Adamax": UpdateRule(moments.adamax, (*_DECAY, "betas", "eps"), _BETAS[:1], _FIRST),
    # What these make of a parameter depends on its whole tensor: `whole_tensor.py`.
    "Muon": UpdateRule(gradient_sums.muon_momentum, (*_DECAY, "momentum"), (("momentum", "momentum_buffer"),)),
    "Adafactor": UpdateRule(lambda _, __: None, _DECAY),
}
WHOLE = ("Muon", "Adafactor")
_FLAGS = ("nesterov", "amsgrad", "maximize", "centered")
_DECOUPLED = ("AdamW",)


def read_hyperparameters(rule: str, group: Mapping[str, Any]) -> Hyperparameters:
    """The hyperparameters of a live parameter group; raises KeyError or TypeError when it is not one of *rule*."""
    found: dict[str, Any] = {"lr": float(group["lr"]), "maximize": bool(group.get("maximize", False))}
    for name in RULES[rule].needs:
        if name == "betas":
            found |= {"beta1": float(group[name][0]), "beta2": float(group[name][1])}
        else:
            found[name] = bool(group[name]) if name in _FLAGS else float(group[name])
    return Hyperparameters(**found, decoupled=bool(group.get("decoupled_weight_decay", rule in _DECOUPLED)))


def expect_update(rule: str, numbers: Hyperparameters, here: Situation, widened: float = 1.0) -> Expectation:
    """
    Where *rule* may take each value of *here*; floating-point exceptions are values (inf, nan), not errors.

    Tolerances are *widened* by a factor, and nothing at all when it is 0: then the exact result of real arithmetic.
    """
    precision = SINGLE if here.tensors else DOUBLE
    scalar = Arithmetic(float(precision.eps), 0.0) if widened else EXACT
    course = Calculation(here, arithmetic_of(here.type, here.how, widened) if widened else EXACT, scalar)
    with np.errstate(all="ignore"):
        RULES[rule].compute(numbers, course)
    return Expectation(values=course.expected)


def altered(numbers: Hyperparameters, **changes: Any) -> Hyperparameters:
    """*numbers* with some of them different, to try out an explanation."""
    return replace(numbers, **changes)
