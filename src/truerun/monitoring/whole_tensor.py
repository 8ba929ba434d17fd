"""Matrix rules, Muon and Adafactor: an update that depends on a whole tensor is recomputed on whole tensors, secretly chosen.

As documented and computed by torch.optim 2.13 (`_muon.py`, `_adafactor.py`; Jordan et al. 2024, "Muon"; Shazeer & Stern,
arXiv:1804.04235). Muon orthogonalises in bfloat16 by five Newton-Schulz iterations, which are replayed here with the same
roundings. Sums inside matrix products come in another order, and what that changes is not bounded by theory: on 192 clean
updates of matrices from 4x4 to 100x600, of full and of low rank, the part along the expected update was off by at most
0.09 %, the rest came to at most 2.4 %. It is allowed 0.5 % and 15 %. Adafactor computes in float32 throughout: it is held to
the rounding of its sums. Cannot see into tensors above the probe's bound, nor noise below 15 % in a Muon update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from truerun.monitoring.observation import Numbers
from truerun.monitoring.update_rules.interval import to_bfloat16

SLOPE, REST, DECAY = 0.005, 0.15, 0.02
PARALLEL = 0.98
Misfit = tuple[str, str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One whole tensor around a step: `before` and `after` hold `p` and its state by name, in their own shapes."""

    tensor: int
    group: Mapping[str, Any]
    gradient: Numbers
    before: Mapping[str, Numbers]
    after: Mapping[str, Numbers]
    count: float
    eps: float


def check_whole(rule: str, whole: Whole) -> Misfit | None:
    """What is wrong with the update of *whole* as (term, words, numbers); None when it is as *rule* makes it."""
    arrays = (whole.gradient, *whole.before.values(), *whole.after.values())
    if not all(np.isfinite(array).all() for array in arrays):
        return None
    with np.errstate(all="ignore"):
        return _muon(whole) if rule == "Muon" else _adafactor(whole)


def _muon(whole: Whole) -> Misfit | None:
    group, before, after = whole.group, whole.before["p"], whole.after["p"]
    momentum, buffer = float(group["momentum"]), whole.after["momentum_buffer"]
    entering = whole.gradient + momentum * (buffer - whole.gradient) if group["nesterov"] else buffer
    direction = orthogonalised(entering, tuple(group["ns_coefficients"]), int(group["ns_steps"]), float(group["eps"]))
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    update = _adjusted(lr, group.get("adjust_lr_fn"), before.shape) * direction
    moved, size = before - after, float(np.linalg.norm(update))
    if not size:
        return None
    if np.array_equal(before, after):
        return "not-applied", "the parameters did not move", {}
    kept, along = _coefficients(moved, before, update)
    if kept is None:
        along = float(np.sum((moved - lr * decay * before) * update) / size**2)
    rest = float(np.linalg.norm(moved - (lr * decay if kept is None else kept) * before - along * update) / size)
    if along < 0 and abs(along + 1) <= REST:
        return "sign", "the update entered with its sign reversed", {"slope": along}
    if abs(along - 1) > SLOPE:
        return "lr", f"it used lr {lr * along:.6g} where {lr:g} is set", {"declared": lr, "observed": lr * along, "slope": along}
    if rest > REST:
        return "values", f"{rest:.0%} of the update is not the orthogonalised momentum", {"rest": rest}
    slack = DECAY * lr * decay + SLOPE * size / max(float(np.linalg.norm(before)), 1e-30)
    if kept is not None and abs(kept - lr * decay) > slack and lr:
        used = round(kept / lr, 4)
        return "weight-decay", f"it used weight decay {used:g} where {decay:g} is set", {"declared": decay, "observed": used}
    return None


def _coefficients(moved: Numbers, before: Numbers, update: Numbers) -> tuple[float | None, float]:
    """Least squares moved = a before + b update; a is None where the two cannot be told apart."""
    across, own, new = float(np.sum(before * update)), float(np.sum(before**2)), float(np.sum(update**2))
    if not own or across * across > PARALLEL**2 * own * new:
        return None, 0.0
    left, right = float(np.sum(moved * before)), float(np.sum(moved * update))
    whole = own * new - across * across
    return (left * new - right * across) / whole, (right * own - left * across) / whole


def _adjusted(lr: float, how: Any, shape: tuple[int, ...]) -> float:
    rows, columns = shape[0], shape[1]
    if how is None or how == "original":
        return float(lr * np.sqrt(max(1.0, rows / columns)))
    return float(lr * 0.2 * np.sqrt(max(rows, columns))) if how == "match_rms_adamw" else lr


def orthogonalised(matrix: Numbers, coefficients: tuple[float, ...], steps: int, eps: float) -> Numbers:
    """Newton-Schulz in bfloat16: X <- a X + (b A + c A A) X with A = X X', each product and sum rounded once."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    now = _half(matrix.T if tall else matrix)
    now = _half(now / max(float(_half(np.sqrt(np.sum(now.astype(np.float64) ** 2)))), eps))
    for _ in range(min(steps, 100)):
        gram = _half(now @ now.T)
        now = _half(a * now + _half(b * gram + c * (gram @ gram)) @ now)
    result: Numbers = (now.T if tall else now).astype(np.float64)
    return result


def _half(values: Any) -> Any:
    return to_bfloat16(values).astype(np.float32)


def _adafactor(whole: Whole) -> Misfit | None:
    gradient = -whole.gradient if whole.group.get("maximize") else whole.gradient
    stuck = np.array_equal(whole.before["p"], whole.after["p"])
    wrong = _wrong_average(whole, gradient)
    if wrong is not None and not stuck:
        return "values", f"state {wrong} holds other values than the rule gives", {}
    if not {"variance"} & set(whole.after) and not {"row_var", "col_var"} <= set(whole.after):
        return None
    update, before = _update(whole, gradient), whole.before["p"]
    lr, decay = float(whole.group["lr"]), float(whole.group["weight_decay"])
    change = lr * decay * before + update
    if _fits(whole, change):
        return None
    if stuck:
        return "not-applied", "the parameters did not move", {}
    if decay and _fits(whole, update):
        return "weight-decay", f"weight decay {decay:g} was not applied", {"declared": decay, "observed": 0.0}
    if _fits(whole, change - 2 * update):
        return "sign", "the update entered with its sign reversed", {"slope": -1.0}
    slope = float(np.sum((before - whole.after["p"]) * change) / np.sum(change**2))
    if _fits(whole, slope * change):
        words = f"it used lr {lr * slope:.6g} where {lr:g} is set"
        return "lr", words, {"declared": lr, "observed": lr * slope, "slope": slope}
    return "values", "parameters hold other values than the rule gives", {}


def _wrong_average(whole: Whole, gradient: Numbers) -> str | None:
    """The first moving average that does not hold what it should."""
    share = whole.count ** float(whole.group["beta2_decay"])
    for name, mean in _means(gradient).items():
        old, new = whole.before.get(name, np.zeros_like(mean)), whole.after.get(name, np.zeros_like(mean))
        loose = whole.eps * (16 + np.sqrt(gradient.size)) * (old + mean) + 1e-37
        if new.shape != mean.shape or np.any(np.abs(new - (old + share * (mean - old))) > loose):
            return name
    return None


def _means(gradient: Numbers) -> dict[str, Numbers]:
    """What the moving averages take in, by name: means over rows and columns, or the squares themselves."""
    squares = gradient * gradient
    if gradient.ndim < 2:
        return {"variance": squares}
    return {"row_var": squares.mean(-1, keepdims=True), "col_var": squares.mean(-2, keepdims=True)}


def _update(whole: Whole, gradient: Numbers) -> Numbers:
    """Lr g / sqrt(v), clipped to root mean square d and scaled by that of the parameter."""
    group, before = whole.group, whole.before["p"]
    least = whole.eps if group["eps"][0] is None else float(group["eps"][0])
    rate = max(float(group["eps"][1]), _rms(before)) * min(float(group["lr"]), whole.count**-0.5)
    if gradient.ndim < 2:
        variance = whole.after["variance"]
    else:
        rows, columns = whole.after["row_var"], whole.after["col_var"]
        variance = rows @ columns / np.maximum(rows.mean(-2, keepdims=True), least)
    update: Numbers = gradient / np.sqrt(np.maximum(variance, least * least))
    return rate / max(1.0, _rms(update) / float(group["d"])) * update


def _fits(whole: Whole, change: Numbers) -> bool:
    """Whether parameters went down by *change*, within the rounding of its sums."""
    before, after = whole.before["p"], whole.after["p"]
    loose = whole.eps * (4 * np.abs(before) + (64 + np.sqrt(before.size)) * np.abs(change)) + 1e-37
    return bool(np.all(np.abs(after - (before - change)) <= loose))


def _rms(values: Numbers) -> float:
    return float(np.sqrt(np.mean(values * values))) if values.size else 0.0
