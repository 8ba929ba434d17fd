"""Whether the loss that backward was called on is the declared one, or the one of the approved run.

The declared loss is computed again in numpy from the outputs and targets that torch's loss function was given, with its default
options (mean, no smoothing) or the declared ones, and compared with the number that backward was called on. Allowed is division by
the number of backward calls before a step (gradient accumulation). Without a declaration, which functions are called, with which
options, on which share of the outputs, and the factor between their result and what backward is called on are compared with the
approved run.

Formulas as torch.nn.functional documents them. Cannot see whether the targets are right, nor a loss written out by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import Numbers

RULE = Rule(
    id="loss-mismatch",
    summary="the loss that backward was called on is not the declared or approved one",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)
NAMES = {
    "nll": "nll_loss",
    "mse": "mse_loss",
    "l1": "l1_loss",
    "smooth_l1": "smooth_l1_loss",
    "huber": "huber_loss",
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
}
CLOSE, CLOSE_SHORT = 1e-4, 2e-2
STABLE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCall:
    """
    One call of a loss function of torch: its `options`, what it returned, whether it was `weighted`, the `share` of the rows of
    the module's output that it was given (None where that cannot be said), and `put` and `target` where they were small.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False
    value: float | None = None
    short: bool = False
    share: float | None = None
    put: Numbers | None = None
    target: Numbers | None = None

    def signature(self) -> list[Any]:
        """What of it is the same in every step of a program: JSON."""
        return [self.function, dict(sorted(self.options.items())), self.weighted, self.share]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSeen:
    """The losses of one step: the calls, the sum that backward was called on, and how many times it was called."""

    kind: str
    rank: int
    step: int
    calls: tuple[LossCall, ...]
    backward: float | None
    backwards: int

    @property
    def factor(self) -> float | None:
        """What backward was called on, in units of what the only loss function returned."""
        if len(self.calls) != 1 or not self.calls[0].value or self.backward is None:
            return None
        return self.backward / self.calls[0].value


def check_declared(seen: LossSeen, declared: str, smoothing: float = 0.0) -> tuple[Finding, ...]:
    """A finding when the loss of a step is not the *declared* one; nothing where it cannot be computed again."""
    name = NAMES.get(declared, declared)
    if name not in FORMULAS or seen.backward is None or not math.isfinite(seen.backward) or not seen.calls:
        return ()
    others = sorted({call.function for call in seen.calls} - {name})
    if len(others) == len({call.function for call in seen.calls}):
        return (_finding(seen, f"{name} is declared, and {' and '.join(others)} was computed", declared=name, observed=others),)
    call = seen.calls[0]
    if len(seen.calls) > 1 or call.weighted or call.put is None or call.target is None:
        return ()
    expected = FORMULAS[name](call.put, call.target, {**call.options, "label_smoothing": smoothing})
    tolerance = (CLOSE_SHORT if call.short else CLOSE) * max(abs(expected), abs(seen.backward), 1e-6)
    whole = (seen.backward, seen.backward * max(1, seen.backwards))  # divided by the number of batches before a step
    if not math.isfinite(expected) or any(abs(value - expected) <= tolerance for value in whole):
        return _check_share(seen, name)
    return (
        _finding(
            seen,
            f"backward() was called on {seen.backward:.6g}, and {name} of the same outputs and targets is {expected:.6g} "
            f"({seen.backward / expected if expected else math.inf:.4g} times; {_differences(call)})",
            declared=expected,
            observed=seen.backward,
        ),
    )


def _check_share(seen: LossSeen, name: str) -> tuple[Finding, ...]:
    share = seen.calls[0].share
    if share is None or share >= 1:
        return ()
    return (
        _finding(
            seen,
            f"{name} was computed of {share:.0%} of the rows that the module returned; the others do not count",
            declared=1.0,
            observed=share,
            severity=Severity.WARNING,
        ),
    )


def _alike(now: list[Any], known: Any) -> bool:
    """Whether two lists of calls agree; a share that one of them could not tell differs from nothing."""
    return len(now) == len(known) and all(
        list(a[:3]) == list(b[:3]) and (a[3] is None or b[3] is None or a[3] == b[3]) for a, b in zip(now, known, strict=True)
    )


def check_against(
    seen: LossSeen, calls: list[Any], factor: float | None, origin: str, *, same_program: bool
) -> tuple[Finding, ...]:
    """A finding when the losses of a step are others than those of the approved run: its *calls* and its *factor*."""
    severity = Severity.ERROR if same_program else Severity.WARNING
    now = [call.signature() for call in seen.calls]
    if now and calls and not any(_alike(now, known) for known in calls):
        was = ", ".join(str(item[0]) for item in calls[0])
        what = f"{_words(now)} was computed where {origin} had {_words(calls[0])}"
        return (_finding(seen, what, declared=was, observed=now, severity=severity),)
    if factor and seen.factor is not None and not math.isclose(seen.factor, factor, rel_tol=2 * STABLE):
        what = f"backward() was called on {seen.factor:.4g} times the loss, in {origin} on {factor:.4g} times the loss"
        return (_finding(seen, what, declared=factor, observed=seen.factor, severity=severity),)
    return ()


def _finding(seen: LossSeen, what: str, *, declared: Any, observed: Any, severity: Severity | None = None) -> Finding:
    return RULE.finding(
        Subject(kind="run", name=seen.kind, key="loss"),
        f"At step {seen.step} the loss is not what it should be: {what}.",
        evidence={"declared": declared, "observed": observed},
        location=Location(step=seen.step, rank=seen.rank),
        severity=severity,
        remedy="look at the line that computes the loss, at its options, and at what it is multiplied with before backward()",
    )


def _differences(call: LossCall) -> str:
    odd = [f"{key}={value}" for key, value in call.options.items() if value not in (DEFAULTS.get(key), None)]
    return f"called with {', '.join(odd)}" if odd else "called with its default options"


def _words(calls: list[Any]) -> str:
    parts = []
    for function, options, weighted, share in calls:
        odd = [f"{key}={value}" for key, value in options.items() if value not in (DEFAULTS.get(key), None)]
        odd += ["with weights"] if weighted else []
        odd += [f"of {share:.0%} of the rows"] if share not in (None, 1.0) else []
        parts.append(f"{function}({', '.join(odd)})")
    return " + ".join(parts)


DEFAULTS = {"reduction": "mean", "label_smoothing": 0.0, "ignore_index": -100, "beta": 1.0, "delta": 1.0, "log_target": False}
Options = Mapping[str, Any]


def _cross_entropy(put: Numbers, target: Numbers, options: Options) -> float:
    scores = np.moveaxis(put, 1, -1).reshape(-1, put.shape[1]) if put.ndim > 1 else put[None]
    scores = scores - scores.max(axis=1, keepdims=True)
    return _likelihood(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), put, target, options)


def _nll(put: Numbers, target: Numbers, options: Options) -> float:
    rows = np.moveaxis(put, 1, -1).reshape(-1, put.shape[1]) if put.ndim > 1 else put[None]
    return _likelihood(rows, put, target, {**options, "label_smoothing": 0.0})


def _likelihood(logs: Numbers, put: Numbers, target: Numbers, options: Options) -> float:
    smoothing, classes = float(options.get("label_smoothing", 0.0)), logs.shape[1]
    if target.shape == put.shape:  # probabilities of classes
        wanted = np.moveaxis(target, 1, -1).reshape(-1, classes) if put.ndim > 1 else target[None]
        return float(-(logs * ((1 - smoothing) * wanted + smoothing / classes)).sum(axis=1).mean())
    chosen = target.reshape(-1).astype(np.int64)
    kept = chosen != options.get("ignore_index", -100)
    hit = -logs[kept][np.arange(int(kept.sum())), chosen[kept]]
    return float(((1 - smoothing) * hit - smoothing * logs[kept].mean(axis=1)).mean())


def _binary_with_logits(put: Numbers, target: Numbers, _: Options) -> float:
    return float((np.maximum(put, 0) - put * target + np.log1p(np.exp(-np.abs(put)))).mean())


def _binary(put: Numbers, target: Numbers, _: Options) -> float:
    with np.errstate(divide="ignore"):
        yes, no = np.maximum(np.log(put), -100), np.maximum(np.log1p(-put), -100)
    return float(-(target * yes + (1 - target) * no).mean())


def _huber(put: Numbers, target: Numbers, options: Options) -> float:
    gap, delta = np.abs(put - target), float(options.get("delta", 1.0))
    return float(np.where(gap < delta, 0.5 * gap**2, delta * (gap - 0.5 * delta)).mean())


def _smooth(put: Numbers, target: Numbers, options: Options) -> float:
    gap, beta = np.abs(put - target), float(options.get("beta", 1.0))
    return float(np.where(gap < beta, 0.5 * gap**2 / beta, gap - 0.5 * beta).mean()) if beta else float(gap.mean())


FORMULAS: Mapping[str, Callable[[Numbers, Numbers, Options], float]] = {
    "cross_entropy": _cross_entropy,
    "nll_loss": _nll,
    "mse_loss": lambda put, target, _: float(((put - target) ** 2).mean()),
    "l1_loss": lambda put, target, _: float(np.abs(put - target).mean()),
    "smooth_l1_loss": _smooth,
    "huber_loss": _huber,
    "binary_cross_entropy": _binary,
    "binary_cross_entropy_with_logits": _binary_with_logits,
}
