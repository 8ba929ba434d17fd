"""Whether the gradient that an optimizer is given is the gradient of what was computed.

Two sides of one identity are compared along a secret direction u in parameter space: <gradient, u>, from the gradients that
the optimizer finds, and <gradient at the modules' outputs, derivative of the modules along u>, from repeating their calls
without a backward pass. Both are exact up to rounding, so the tolerance is a small multiple of the precision times the size of
what was added up. Then: whether gradients changed between the backward pass and the step otherwise than by torch's own clipping
and unscaling.

Many honest methods alter gradients: hooks, autograd functions that are not a derivative (a straight-through estimator, a
reversed gradient), edits before the step. Where something of the kind is in sight, and neither a declaration nor the approved
run says that it should not be there, this warns. Where nothing explains the difference, it is an error.

Cannot see what lies between the loss and the modules' outputs; that is `loss-mismatch`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import OptimizerSeen

RULE = Rule(
    id="gradient-mismatch",
    summary="the gradient given to an optimizer is not the gradient of what was computed",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0018",
)
FINE, COARSE, COARSE_PRECISION = 60.0, 4.0, 1e-4
SAME, TINY = 1e-3, 1e-300
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}  # of one gradient; a factor is applied to each of them and rounded
MAX_NAMED = 8
SCALING = frozenset({"clip_grad_norm_", "clip_grads_with_norm_", "unscale_"})
LEGAL = frozenset({"clip_grad_value_"})
REMEDY = (
    "look at what is named here and at the code between backward() and step(); if the method alters gradients on purpose, "
    'declare [training] gradient = "altered"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """
    The gradient of some `tensors` (positions) along a direction: `observed` in the optimizer's gradients, `expected` from the
    computation; `scale` is the sum of the absolute values that were added up.
    """

    tensors: tuple[int, ...]
    observed: float
    expected: float
    scale: float

    @property
    def ratio(self) -> float:
        """What factor the gradient is off by."""
        return self.observed / self.expected if self.expected else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Gradients changed: by `what` (a function of torch, or `between`), in `count` tensors; some of them (position, before, after)."""

    what: str
    count: int
    listed: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSeen:
    """
    One look. `why` says why nothing could be told, None when it could; `precision` is the relative rounding error of the
    numbers computed with; `functions` and `hooks` name what in the backward pass is the program's own; `norms` per tensor.
    """

    optimizer: OptimizerSeen
    step: int
    why: str | None = None
    precision: float = 0.0
    passes: tuple[Pass, ...] = ()
    edits: tuple[Edit, ...] = ()
    functions: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    norms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """
    What is known of the run's gradients beforehand.

    `declared` is `exact`, `altered` or None; `approved` are the alterations that the approved run showed (`backward`,
    `edited`), None without such a run; `origin` names it, and `same_program` says that its code was the same.
    """

    declared: str | None = None
    approved: frozenset[str] | None = None
    origin: str = ""
    same_program: bool = False


def differs(seen: Pass, precision: float) -> bool:
    """Whether the two sides differ by more than rounding explains; NaN on either side is `metric-not-finite`'s."""
    if not all(math.isfinite(value) for value in (seen.observed, seen.expected, seen.scale)):
        return False
    return abs(seen.observed - seen.expected) > (FINE if precision < COARSE_PRECISION else COARSE) * precision * seen.scale


def alterations(seen: GradientSeen) -> frozenset[str]:
    """Which kinds of alteration a look shows."""
    backward = {"backward"} if _confirmed(seen) is not None else set()
    return frozenset(backward | {"edited" for edit in seen.edits if _explain(edit, seen) is not None})


def check_gradient(seen: GradientSeen, usual: Usual) -> tuple[Finding, ...]:
    """At most one finding for the backward pass and one for edits after it."""
    found = [_check_backward(seen, usual), _check_edits(seen, usual)]
    return tuple(finding for finding in found if finding is not None)


def _confirmed(seen: GradientSeen) -> Pass | None:
    """The second draw over all tensors, where both draws differ."""
    if seen.why is not None or len(seen.passes) < 2 or seen.passes[0].tensors != seen.passes[1].tensors:
        return None
    return seen.passes[1] if all(differs(draw, seen.precision) for draw in seen.passes[:2]) else None


def _check_backward(seen: GradientSeen, usual: Usual) -> Finding | None:
    whole = _confirmed(seen)
    if whole is None:
        return None
    severity = _severity("backward", bool(seen.functions or seen.hooks), usual)
    if severity is None:
        return None
    narrowed = _narrow(seen, whole)
    off = narrowed if narrowed is not None else whole
    names = [seen.optimizer.names[i] for i in off.tensors]
    where = "all tensors" if narrowed is None else _listed(names)
    own = (*seen.functions, *seen.hooks)
    inside = (
        f" Code of the program takes part in the backward pass: {', '.join(own[:4])}."
        if own
        else (" No hook or autograd function of the program is in sight that would explain it.")
    )
    return RULE.finding(
        Subject(kind="run", name=seen.optimizer.kind, key=names[0] if len(names) == 1 else None),
        f"At step {seen.step} the gradient of {where} is not the gradient of what was computed: along a random direction it is "
        f"{off.observed:.6g} where the computation gives {off.expected:.6g} ({off.ratio:.4g} times).{inside}",
        evidence={
            "term": "backward",
            "tensors": names[:64] if narrowed is not None else "all",
            "ratio": off.ratio if math.isfinite(off.ratio) else None,
            "excess": abs(whole.observed - whole.expected) / max(seen.precision * whole.scale, TINY),
            "functions": list(seen.functions),
            "hooks": list(seen.hooks),
        },
        location=Location(step=seen.step, rank=seen.optimizer.rank),
        severity=severity,
        remedy=REMEDY,
    )


def _narrow(seen: GradientSeen, whole: Pass) -> Pass | None:
    """The smallest part that differs, where the look was narrowed down to one; None where it is about everything."""
    wrong = [part for part in seen.passes[2:] if differs(part, seen.precision)]
    leaves = [part for part in wrong if not any(set(other.tensors) < set(part.tensors) for other in wrong)]
    if not leaves or sum(len(part.tensors) for part in leaves) > len(whole.tensors) // 2:
        return None
    return Pass(
        tensors=tuple(sorted(i for part in leaves for i in part.tensors)),
        observed=sum(part.observed for part in leaves),
        expected=sum(part.expected for part in leaves),
        scale=whole.scale,
    )


def _check_edits(seen: GradientSeen, usual: Usual) -> Finding | None:
    explained = [(edit, text) for edit in seen.edits if (text := _explain(edit, seen)) is not None]
    if seen.why is not None or not explained:
        return None
    edit, text = explained[0]
    severity = _severity("edited", edit.what == "between", usual)
    if severity is None:
        return None
    names = [seen.optimizer.names[i] for i, _, _ in edit.listed]
    by = "between the backward pass and the step" if edit.what == "between" else f"in {edit.what}, otherwise than it does"
    return RULE.finding(
        Subject(kind="run", name=seen.optimizer.kind, key=names[0] if edit.count == 1 else None),
        f"Before step {seen.step} the gradient of {_listed(names, edit.count)} was changed {by}: {text}.",
        evidence={"term": "edited", "tensors": names, "count": edit.count, "what": edit.what},
        location=Location(step=seen.step, rank=seen.optimizer.rank),
        severity=severity,
        remedy=REMEDY,
    )


def _explain(edit: Edit, seen: GradientSeen) -> str | None:
    """What an edit did, in words; None where torch's own function did what it is for."""
    if edit.what in LEGAL or not edit.listed:
        return None
    _, before, after = max(edit.listed, key=lambda item: abs(item[1]))
    ratio = after / before if before else math.inf
    if not math.isfinite(ratio):
        return None if not math.isfinite(before + after) else "it was zero before"
    size = {i: seen.norms[i] if i < len(seen.norms) else 0.0 for i, _, _ in edit.listed}
    same = max(SAME, *(4 * ROUNDING.get(seen.optimizer.types[i], 0.0) for i, _, _ in edit.listed))
    even = all(abs(new - ratio * old) <= same * max(abs(new), size[i]) for i, old, new in edit.listed)
    if edit.what in SCALING and even and ratio > 0 and (ratio <= 1 + same or edit.what == "unscale_"):
        return None
    if all(new == 0 for _, _, new in edit.listed):
        return "it was set to zero"
    return f"it was multiplied by {ratio:.4g}" if even and len(edit.listed) == edit.count else "not by one factor"


def _severity(kind: str, explained: bool, usual: Usual) -> Severity | None:
    if usual.declared == "altered":
        return None
    if usual.declared == "exact":
        return Severity.ERROR
    if usual.approved is not None and kind in usual.approved:
        return None
    if usual.approved is not None and usual.same_program:
        return Severity.ERROR
    return Severity.WARNING if explained else Severity.ERROR


def check_untold(optimizer: OptimizerSeen, reasons: Sequence[str]) -> tuple[Finding, ...]:
    """A note: no look at the gradients of *optimizer* could tell anything; *reasons* in the order of how often."""
    return (
        RULE.finding(
            Subject(kind="run", name=optimizer.kind, key="gradients"),
            f"Could not tell whether the gradients of {optimizer.kind} are those of the loss: {'; '.join(reasons[:3])}.",
            evidence={"reasons": list(reasons)},
            location=Location(rank=optimizer.rank),
            severity=Severity.NOTE,
            confidence=Confidence.CERTAIN,
        ),
    )


def _listed(names: Sequence[str], count: int | None = None) -> str:
    more = (len(names) if count is None else count) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
