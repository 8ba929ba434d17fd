"""Update attestation: is the update that a step made the one that its rule makes of this gradient?

Recomputes sampled coordinates from the captured gradient and state (`update_rules.py`) and, where they do not fit, tries
the explanations that an altered optimizer would leave: reversed sign, another learning rate, no weight decay, other
betas, eps or momentum, a step that was not applied. Cannot see what happened before the gradient was captured, nor an edit
of a few weights in a million (one look sees 0.1 % of edited weights with probability 1 - 0.999^n for n coordinates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import PRECISION, SMALLEST, Mask, Numbers, Sample
from truerun.monitoring.update_rules import (
    Expectation,
    Hyperparameters,
    Situation,
    altered,
    expect_update,
    read_hyperparameters,
)

RULE = Rule(
    id="update-mismatch",
    summary="an optimizer step changed the parameters in another way than its rule does",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018",
)
FIT = 16.0  # an estimated constant carries the rounding errors of what it was estimated from
MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class _Group:
    """One parameter group of a sample: where its coordinates are, what they were, what they should have become."""

    where: NDArray[np.int64]
    tensor: NDArray[np.int64]
    rule: str
    numbers: Hyperparameters
    here: Situation
    after: dict[str, Numbers]
    bad: dict[str, Mask]


def check_update(sample: Sample) -> tuple[Finding, ...]:
    """At most one finding per explanation; none when every coordinate is within rounding of the rule."""
    if sample.optimizer.rule is None or sample.optimizer.obstacle is not None:
        return ()
    found: dict[str, list[tuple[_Group, str, dict[str, Any]]]] = {}
    for group in _groups(sample):
        if any(mask.any() for mask in group.bad.values()):
            term, words, numbers = _explain(group)
            found.setdefault(term, []).append((group, words, numbers))
    return tuple(_finding(sample, term, cases) for term, cases in found.items()) + _check_counters(sample)


def _groups(sample: Sample) -> Iterator[_Group]:
    seen = sample.optimizer
    tensor_of = seen.tensor_of()
    group_of = seen.group_of_tensor()[tensor_of]
    eps = np.array([PRECISION[kind] for kind in seen.types])[tensor_of]
    tiny = np.array([SMALLEST[kind] for kind in seen.types])[tensor_of]
    fresh = np.isin(tensor_of, list(sample.fresh))
    count = np.nan_to_num(sample.counted_before, nan=0.0)[tensor_of] + 1
    idle = np.isin(tensor_of, list(sample.no_gradient))
    for number, group in enumerate(sample.groups):
        where = np.flatnonzero(group_of == number)
        rule = seen.rule
        assert rule is not None
        numbers = read_hyperparameters(rule, group)
        here = Situation(
            p=sample.before["p"][where],
            gradient=sample.gradient[where],
            before={name: values[where] for name, values in sample.before.items()},
            after={name: values[where] for name, values in sample.after.items()},
            count=count[where],
            fresh=fresh[where],
            eps=eps[where],
            tiny=tiny[where],
        )
        after = {name: values[where] for name, values in sample.after.items()}
        bad = _misfits(expect_update(rule, numbers, here), after, idle[where], here)
        yield _Group(where, tensor_of[where], rule, numbers, here, after, bad)


def _misfits(expected: Expectation, after: dict[str, Numbers], idle: Mask, here: Situation) -> dict[str, Mask]:
    bad = {}
    for name, (value, tolerance) in expected.values.items():
        if name not in after:
            continue
        got = after[name]
        with np.errstate(invalid="ignore"):
            fits = (np.abs(got - value) <= tolerance) | (got == value) | (~np.isfinite(value) & ~np.isfinite(got))
        untouched = got == here.before.get(name, np.zeros_like(got))
        bad[name] = ~np.where(idle, untouched, fits)
    return bad


def _explain(group: _Group) -> tuple[str, str, dict[str, Any]]:
    """The first explanation under which every coordinate of the group fits: (term, words, numbers)."""
    for term, make in _EXPLANATIONS:
        with np.errstate(all="ignore"):
            answer = make(group)
        if answer is not None:
            return term, answer[0], answer[1]
    parts = sorted(name for name, mask in group.bad.items() if mask.any())
    shown = ", ".join("parameters" if name == "p" else f"state {name}" for name in parts)
    worst = max(float(mask.mean()) for mask in group.bad.values())
    return "values", f"{shown} hold other values than the rule gives, at {worst:.1%} of the coordinates looked at", {}


def _fits(group: _Group, numbers: Hyperparameters, gradient: Numbers | None = None) -> bool:
    here = group.here if gradient is None else replace(group.here, gradient=gradient)
    expected = expect_update(group.rule, numbers, replace(here, eps=FIT * here.eps))
    return all(
        bool(np.all(np.abs(group.after[name] - value) <= tolerance))
        for name, (value, tolerance) in expected.values.items()
        if name in group.after
    )


def _ratio(above: Numbers, below: Numbers) -> float | None:
    """Least squares c in above = c below."""
    weight = float(np.sum(below * below))
    return float(np.sum(above * below)) / weight if weight > 0 and np.isfinite(weight) else None


def _not_applied(group: _Group) -> tuple[str, dict[str, Any]] | None:
    same = all(np.array_equal(group.after[name], group.here.before.get(name, group.after[name])) for name in group.after)
    return ("the step changed nothing: it was not applied", {}) if same else None


def _only_parameters_not_applied(group: _Group) -> tuple[str, dict[str, Any]] | None:
    stuck = group.bad.get("p")
    if stuck is None or not stuck.any() or not np.array_equal(group.after["p"][stuck], group.here.p[stuck]):
        return None
    whole = [tensor for tensor in np.unique(group.tensor[stuck]) if bool(np.all(stuck[group.tensor == tensor]))]
    if len(whole) < len(np.unique(group.tensor[stuck])):
        return None
    return "these parameters did not move: they are left out of the step", {}


def _reversed(group: _Group) -> tuple[str, dict[str, Any]] | None:
    if _fits(group, group.numbers, -group.here.gradient):
        return "the gradient entered with its sign reversed", {"slope": -1.0}
    return None


def _decay(group: _Group) -> tuple[str, dict[str, Any]] | None:
    if group.numbers.weight_decay and _fits(group, altered(group.numbers, weight_decay=0.0)):
        return (
            f"weight decay {group.numbers.weight_decay:g} was not applied",
            {"declared": group.numbers.weight_decay, "observed": 0.0},
        )
    return None


def _rate(group: _Group) -> tuple[str, dict[str, Any]] | None:
    expected = expect_update(group.rule, group.numbers, group.here)
    slope = _ratio(expected.start - group.after["p"], expected.update)
    lr = group.numbers.lr
    if slope is None or not lr:
        return None
    if group.numbers.decoupled:
        # Both the decay and the update scale with lr: p0 - p1 = lr (wd p0 + direction).
        slope = _ratio(group.here.p - group.after["p"], lr * group.numbers.weight_decay * group.here.p + expected.update)
    if slope is not None and _fits(group, altered(group.numbers, lr=lr * slope)):
        return f"it used lr {lr * slope:.6g} where {lr:g} is set", {"declared": lr, "observed": lr * slope, "slope": slope}
    return None


def _scaled(group: _Group) -> tuple[str, dict[str, Any]] | None:
    gradient = group.here.gradient
    if "exp_avg" in group.after:
        beta = group.numbers.beta1
        moved = group.after["exp_avg"] - beta * group.here.before.get("exp_avg", np.zeros_like(gradient))
        if group.numbers.weight_decay and not group.numbers.decoupled:
            moved = moved - (1 - beta) * group.numbers.weight_decay * group.here.p
        factor = _ratio(moved, (1 - beta) * gradient)
    else:
        # Around the prediction with gradient zero, the update is linear in the gradient.
        without = expect_update(group.rule, group.numbers, replace(group.here, gradient=np.zeros_like(gradient)))
        name = "momentum_buffer" if "momentum_buffer" in group.after else "p"
        with_it = expect_update(group.rule, group.numbers, group.here)
        factor = _ratio(group.after[name] - without.values[name][0], with_it.values[name][0] - without.values[name][0])
    if factor is not None and _fits(group, group.numbers, factor * gradient):
        return f"the gradient entered multiplied by {factor:.6g}", {"slope": factor}
    return None


def _coefficient(name: str, of: str, square: bool) -> Callable[[_Group], tuple[str, dict[str, Any]] | None]:
    """An explanation by another decay rate of a moving average: new = c old + (1 - c) x gives c."""

    def explain(group: _Group) -> tuple[str, dict[str, Any]] | None:
        if of not in group.after:
            return None
        entering = group.here.gradient * (-1.0 if group.numbers.maximize else 1.0)
        if group.numbers.weight_decay and not group.numbers.decoupled:
            entering = entering + group.numbers.weight_decay * group.here.p
        entering = entering * entering if square else entering
        old = group.here.before.get(of, np.zeros_like(entering))
        if name == "momentum":
            rate = _ratio(group.after[of] - (1 - group.numbers.dampening) * entering, old)
        else:
            rate = _ratio(group.after[of] - entering, old - entering)
        # The parameter depends on the rate through the bias correction too.
        if rate is None or not 0 <= rate < 1 or not _fits_moment(group, of, altered(group.numbers, **{name: rate})):
            return None
        declared = getattr(group.numbers, name)
        if abs(rate - declared) < 1e-6:
            return None
        return f"it used {name} {rate:.6g} where {declared:g} is set", {"declared": declared, "observed": rate}

    return explain


def _fits_moment(group: _Group, name: str, numbers: Hyperparameters) -> bool:
    here = replace(group.here, eps=FIT * group.here.eps)
    value, tolerance = expect_update(group.rule, numbers, here).values[name]
    return bool(np.all(np.abs(group.after[name] - value) <= tolerance))


def _epsilon(group: _Group) -> tuple[str, dict[str, Any]] | None:
    if "exp_avg" not in group.after or group.bad["exp_avg"].any() or group.bad["exp_avg_sq"].any():
        return None
    expected = expect_update(group.rule, group.numbers, group.here)
    moved = expected.start - group.after["p"]
    plain = expect_update(group.rule, altered(group.numbers, eps=0.0), group.here)
    # update = s m / (root + eps): where the root is small the ratio of the updates gives eps away.
    top = group.numbers.lr / (1 - group.numbers.beta1**group.here.count) * group.after["exp_avg"]
    known = (np.abs(moved) > 64 * group.here.eps * np.abs(group.here.p)) & (plain.update != 0)
    if not known.any():
        return None
    eps = float(np.median((top / moved - top / plain.update)[known]))
    if eps >= 0 and abs(eps - group.numbers.eps) > 1e-3 * group.numbers.eps and _fits(group, altered(group.numbers, eps=eps)):
        return f"it used eps {eps:.3g} where {group.numbers.eps:g} is set", {"declared": group.numbers.eps, "observed": eps}
    return None


_EXPLANATIONS: tuple[tuple[str, Callable[[_Group], tuple[str, dict[str, Any]] | None]], ...] = (
    ("not-applied", _not_applied),
    ("sign", _reversed),
    ("weight-decay", _decay),
    ("eps", _epsilon),
    ("lr", _rate),
    ("gradient-scale", _scaled),
    ("beta1", _coefficient("beta1", "exp_avg", square=False)),
    ("beta2", _coefficient("beta2", "exp_avg_sq", square=True)),
    ("momentum", _coefficient("momentum", "momentum_buffer", square=False)),
    ("frozen", _only_parameters_not_applied),
)


def _finding(sample: Sample, term: str, cases: list[tuple[_Group, str, dict[str, Any]]]) -> Finding:
    seen = sample.optimizer
    wrong: list[int] = []
    bad = total = 0
    for group, _, _ in cases:
        mask = np.logical_or.reduce(list(group.bad.values()))
        bad, total = bad + int(mask.sum()), total + len(mask)
        wrong += [int(tensor) for tensor in np.unique(group.tensor[mask])]
    names = [seen.names[tensor] for tensor in wrong]
    where = "all tensors" if len(names) == len(seen.names) else _listed(names)
    _, words, numbers = cases[0]
    message = (
        f"Step {sample.step} is not the update that {seen.rule} makes of this gradient: {words}. "
        f"{bad} of {total} coordinates looked at are off, in {where}. The optimizer's own settings are "
        f"{_settings(sample.groups[0])}; something inside step() does otherwise."
    )
    return RULE.finding(
        Subject(kind="run", name=seen.rule or seen.kind, key=names[0] if len(names) == 1 else None),
        message,
        evidence={"term": term, "tensors": names[:64], "fraction": bad / total, "coordinates": total, **numbers},
        location=Location(step=sample.step, rank=seen.rank),
        remedy="compare the installed torch with its RECORD (truerun check environment) and look for code that replaces step()",
    )


def _settings(group: Any) -> str:
    names = ("lr", "weight_decay", "momentum", "betas", "eps")
    return ", ".join(f"{name} {_shown(group[name])}" for name in names if name in group)


def _shown(value: Any) -> str:
    return "(" + ", ".join(f"{item:g}" for item in value) + ")" if isinstance(value, list | tuple) else f"{value:g}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _check_counters(sample: Sample) -> tuple[Finding, ...]:
    """The optimizer's own count goes up by one for each tensor that has a gradient, and stays for the others."""
    seen = sample.optimizer
    due = np.array([0.0 if tensor in sample.no_gradient else 1.0 for tensor in range(len(seen.names))])
    moved = sample.counted_after - np.nan_to_num(sample.counted_before, nan=0.0)
    wrong = np.flatnonzero(np.isfinite(sample.counted_after) & (moved != due))
    if not len(wrong):
        return ()
    names = [seen.names[int(tensor)] for tensor in wrong]
    return (
        RULE.finding(
            Subject(kind="run", name=seen.rule or seen.kind, key=names[0] if len(names) == 1 else None),
            f"At step {sample.step} the optimizer's own step counter of {_listed(names)} moved by {moved[wrong[0]]:g} "
            f"where it must move by {due[wrong[0]]:g}: its bias correction is off from here on.",
            evidence={"term": "counter", "tensors": names[:64], "observed": float(moved[wrong[0]])},
            location=Location(step=sample.step, rank=seen.rank),
            remedy="look for code that writes to optimizer.state or replaces step()",
        ),
    )
