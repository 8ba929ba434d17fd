"""Update attestation: is the update that a step made the one that its rule makes of this gradient?

Recomputes sampled coordinates from the captured gradient and state (`update_rules/`) and, where they do not fit, tries
the explanations that an altered optimizer would leave (`update_explanation.py`). Cannot see what happened before the gradient
was captured, nor an edit of a few weights in a million (one look sees 0.1 % of edited weights with probability
1 - 0.999^n for n coordinates).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import Mask, Numbers, Sample
from truerun.monitoring.update_explanation import HALF, Part, exact, explain
from truerun.monitoring.update_rules import Expectation, Situation, expect_update, read_hyperparameters
from truerun.monitoring.whole_tensor import Misfit, Whole, check_whole

RULE = Rule(
    id="update-mismatch",
    summary="an optimizer step changed the parameters in another way than its rule does",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018",
)
MAX_NAMED = 8
MASKED = ("SparseAdam", "Adagrad")  # with sparse gradients these leave alone what the gradient does not hold
DEFECTIVE = (("SGD", "fused"), ("Adagrad", "fused"))  # in half precision: see `_misfits_of_a_defect`
REMEDY = "compare the installed torch with its RECORD (truerun check environment) and look for code that replaces step()"
STUCK = "parameters that had to move stayed as they were"


def check_update(sample: Sample) -> tuple[Finding, ...]:
    """At most one finding per explanation; none when every coordinate is within rounding of the rule."""
    if sample.optimizer.rule is None or sample.optimizer.obstacle is not None:
        return ()
    found: dict[str, list[tuple[Part, str, dict[str, Any]]]] = {}
    for part in _parts(sample):
        if any(mask.any() for mask in part.bad.values()):
            term, words, numbers = ("not-applied", STUCK, {}) if _defective(part) else explain(part)
            found.setdefault(term, []).append((part, words, numbers))
    found_whole = () if found or sample.overflowed else _check_whole(sample)
    return tuple(_finding(sample, term, cases) for term, cases in found.items()) + found_whole + _check_counters(sample)


def _check_whole(sample: Sample) -> tuple[Finding, ...]:
    """One finding for each explanation that a tensor captured whole needs."""
    seen = sample.optimizer
    found: dict[str, tuple[Misfit, list[str], list[int]]] = {}
    for tensor, arrays in sample.whole:
        whole = Whole(
            tensor=tensor,
            group=sample.groups[int(seen.group_of_tensor()[tensor])],
            gradient=arrays["g"],
            before={name.removesuffix(".0"): values for name, values in arrays.items() if name.endswith(".0")},
            after={name.removesuffix(".1"): values for name, values in arrays.items() if name.endswith(".1")},
            count=float(np.nan_to_num(sample.counted_before[tensor], nan=0.0)) + 1,
            eps=float(np.finfo(seen.types[tensor]).eps),
        )
        misfit = check_whole(str(seen.rule), whole)
        if misfit is not None:
            found.setdefault(misfit[0], (misfit, [], []))[1].append(seen.names[tensor])
            found[misfit[0]][2].append(arrays["g"].size)
    return tuple(
        RULE.finding(
            Subject(kind="run", name=str(seen.rule), key=names[0] if len(names) == 1 else None),
            f"Step {sample.step} is not the update that {seen.rule} makes of this gradient: {misfit[1]}, in {_listed(names)} "
            f"(of {len(sample.whole)} tensors recomputed whole). The optimizer's own settings are {_settings(sample.groups[0])}; "
            "something inside step() does otherwise.",
            evidence={"term": term, "tensors": names[:64], "coordinates": sum(sizes), "whole": True, **misfit[2]},
            location=Location(step=sample.step, rank=seen.rank),
            remedy=REMEDY,
        )
        for term, (misfit, names, sizes) in found.items()
    )


def _parts(sample: Sample) -> Iterator[Part]:
    """The coordinates by parameter group and type of number, with what does not fit."""
    seen, rule = sample.optimizer, sample.optimizer.rule
    assert rule is not None
    tensor_of = seen.tensor_of()
    group_of = seen.group_of_tensor()[tensor_of]
    type_of = np.array(seen.types)[tensor_of]
    idle = np.isin(tensor_of, list(sample.no_gradient)) | sample.overflowed
    if rule in MASKED and sample.summands is not None:
        idle |= sample.summands == 0
    for number, group in enumerate(sample.groups):
        numbers = read_hyperparameters(rule, group)
        for kind in np.unique(type_of[group_of == number]):
            where = np.flatnonzero((group_of == number) & (type_of == kind))
            part = Part(tensor_of[where], rule, numbers, _situation(sample, where, tensor_of, str(kind), number), {})
            part.bad.update(_misfits(part, idle[where]))
            yield part


def _situation(sample: Sample, where: Any, tensor_of: Any, kind: str, group: int) -> Situation:
    how, tensors = sample.how[group]
    return Situation(
        p=sample.before["p"][where],
        gradient=sample.gradient[where],
        before={name: values[where] for name, values in sample.before.items()},
        after={name: values[where] for name, values in sample.after.items()},
        count=np.nan_to_num(sample.counted_before, nan=0.0)[tensor_of[where]] + 1,
        fresh=np.isin(tensor_of[where], list(sample.fresh)),
        type=kind,
        how=how,
        tensors=tensors,
        scale=sample.scale,
        summands=None if sample.summands is None else sample.summands[where],
        reach=None if sample.reach is None else sample.reach[where],
    )


def _misfits(part: Part, idle: Mask) -> dict[str, Mask]:
    here = part.here
    if _defective(part):
        return _misfits_of_a_defect(part, idle)
    expected: Expectation = expect_update(part.rule, part.numbers, here)
    bad = {}
    for name, value in expected.values.items():
        got = here.after.get(name)
        if got is None:
            continue
        old = here.before.get(name)
        old = np.zeros_like(got) if old is None else old
        untouched = (got == old) | (np.isnan(got) & np.isnan(old))
        if name != "momentum_buffer":
            # What a step that overflowed creates is as it begins; SGD has no beginning but its first gradient.
            untouched |= here.fresh
        bad[name] = ~np.where(idle, untouched, value.holds(got))
    return bad


def _misfits_of_a_defect(part: Part, idle: Mask) -> dict[str, Mask]:
    """
    Kernels that do not compute what they document: all that is certain is that parameters must not stay as they were.

    Bad is what did not move and had to by four units in the last place, where that is so of most of them.
    """
    before, after = part.here.p, part.here.after["p"]
    due = np.abs(exact(part, part.numbers)["p"] - before) > 4 * _ulp(before, part.here.type)
    due &= ~idle
    still: Mask = due & (before == after)
    return {"p": still if still.sum() > due.sum() / 2 else np.zeros_like(still)}


def _defective(part: Part) -> bool:
    return part.here.type in HALF and (part.rule, part.here.how) in DEFECTIVE


def _ulp(values: Numbers, kind: str) -> Numbers:
    digits = 7 if kind == "bfloat16" else 10
    result: Numbers = np.ldexp(1.0, np.frexp(values)[1] - 1 - digits)
    return result


def _finding(sample: Sample, term: str, cases: list[tuple[Part, str, dict[str, Any]]]) -> Finding:
    seen = sample.optimizer
    wrong: list[int] = []
    bad = total = 0
    for part, _, _ in cases:
        mask = np.logical_or.reduce(list(part.bad.values()))
        bad, total = bad + int(mask.sum()), total + len(mask)
        wrong += [int(tensor) for tensor in np.unique(part.tensor[mask])]
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
        remedy=_remedy(cases[0][0]),
    )


def _remedy(part: Part) -> str:
    if _defective(part):
        return f"torch's fused {part.rule} is known to leave {part.here.type} parameters on the CPU as they are: use fused=False"
    return REMEDY


def _settings(group: Any) -> str:
    names = (
        "lr",
        "weight_decay",
        "momentum",
        "betas",
        "eps",
        "beta2_decay",
        "alpha",
        "rho",
        "lr_decay",
        "momentum_decay",
        "lambd",
    )
    return ", ".join(f"{name} {_shown(group[name])}" for name in names if name in group)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_shown, value)) + ")"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _check_counters(sample: Sample) -> tuple[Finding, ...]:
    """The optimizer's own count goes up by one for each tensor that has a gradient, and stays for the others."""
    seen = sample.optimizer
    idle = [sample.overflowed or tensor in sample.no_gradient for tensor in range(len(seen.names))]
    due = np.where(idle, 0.0, 1.0)
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
