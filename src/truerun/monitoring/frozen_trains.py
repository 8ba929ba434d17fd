"""Parameters that are meant to stay as they are, and do not.

Meant by declaration (`[training] frozen = ["backbone.*"]`), else as in the approved run. Where code, command or environment changed
since that run, they may explain it: then it is a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.training_set import MOVED, Expected, ParametersSeen, listed, matching

RULE = Rule(
    id="frozen-trains",
    summary="parameters that are meant to be frozen are trained",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)


def check_frozen(seen: ParametersSeen, expected: Expected) -> tuple[Finding, ...]:
    """Findings for parameters that train against the declaration, or against the approved run where nothing is declared."""
    if expected.frozen:
        frozen = matching(list(seen.sizes), expected.frozen)
        return _trained(seen, frozen, "[training] frozen declares them frozen", certain=True)
    then = expected.trained_then(seen)
    if then is None:
        return ()
    return _trained(
        seen, [name for name in then if not then[name]], f"in {expected.origin} they were not", certain=expected.same_program
    )


def _trained(seen: ParametersSeen, frozen: list[str], why: str, *, certain: bool) -> tuple[Finding, ...]:
    names = [name for name in frozen if seen.trains(name)]
    if not names:
        return ()
    moved = [name for name in names if seen.state[name] & MOVED]
    return (
        RULE.finding(
            Subject(kind="run", name=seen.kind, key=names[0] if len(names) == 1 else None),
            f"{len(names)} parameters are trained that should be frozen: {listed(names)} "
            f"({len(moved)} of them have moved by step {seen.step}); {why}.",
            evidence={"tensors": names[:64], "moved": len(moved)},
            location=Location(step=seen.step, rank=seen.rank),
            severity=Severity.ERROR if certain else Severity.WARNING,
            confidence=Confidence.CERTAIN if certain else Confidence.MEDIUM,
            remedy="set requires_grad_(False) on them before the optimizer is made; look for code that freezes and is not called",
        ),
    )


def check_patterns(models: Sequence[ParametersSeen], patterns: Sequence[str]) -> tuple[Finding, ...]:
    """A warning for *patterns* of `[training] frozen` that name no parameter of any of *models*, those of one process."""
    names = [name for seen in models for name in seen.sizes]
    unmatched = [pattern for pattern in patterns if not matching(names, [pattern])]
    if not unmatched or not names:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="[training]", key="frozen"),
            f"[training] frozen names {', '.join(map(repr, unmatched))}, and no model has such a parameter: "
            f"names are like {listed(names[:3])}.",
            evidence={"patterns": unmatched},
            location=Location(step=models[0].step, rank=models[0].rank),
            severity=Severity.WARNING,
            remedy="correct the pattern in truerun.toml",
        ),
    )
