"""Dropout at work, or batch norm that normalises by its batch, while the model is evaluated: results that are worse than the model.

A line that drops although its module is in evaluation mode does so always (`F.dropout(x, 0.1)` without `training=self.training`).
Modules still in training mode are told where three passes or more without gradients follow one another, as in a validation: single
passes are the way of GANs, teachers and targets. Monte Carlo dropout is declared: `[training] dropout_in_evaluation = true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.training_set import listed

RULE = Rule(
    id="evaluation-mode",
    summary="dropout or batch statistics are at work while the model is evaluated",
    severity=Severity.WARNING,
    confidence=Confidence.HIGH,
)
PASSES = 3
WORDS = {"batch_norm": "normalises by its batch", "scaled_dot_product_attention": "drops attention weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A module that dropped or used its batch in `passes` passes without gradients, at `path`:`line`; in which mode it was."""

    module: str
    what: str
    path: str
    line: int
    training: bool
    passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What was at work between two calls of `backward`, the last of them before `step` ended."""

    step: int
    rank: int
    active: Sequence[Active]


def check_evaluation(seen: Evaluated, *, certain: bool, origin: str) -> tuple[Finding, ...]:
    """Findings for lines that ignore evaluation mode and for evaluations in training mode; errors when *certain*, by *origin*."""
    ignoring = [active for active in seen.active if not active.training]
    forgotten = [active for active in seen.active if active.training]
    # A layer may be used many times in one pass; the one that is used least tells how many passes there were.
    passes = min((active.passes for active in forgotten), default=0)
    found = []
    if ignoring:
        first = ignoring[0]
        text = (
            f"{_at(first)} {WORDS.get(first.what, 'drops values')} although {_named(first)} is in evaluation mode "
            f"(after step {seen.step}{_more(len(ignoring) - 1)})"
        )
        remedy = "pass training=self.training to the function, and a dropout of 0 to attention where the module is not training"
        found.append(_finding(seen, "ignores", text, remedy, ignoring, certain=certain, origin=origin))
    elif passes >= PASSES:
        names = [_named(active) for active in forgotten]
        text = (
            f"After step {seen.step} the model was evaluated in training mode, {passes} passes "
            f"without gradients: {listed(names)} drop values or normalise by their batch"
        )
        found.append(
            _finding(seen, "training", text, "call model.eval() before evaluating", forgotten, certain=certain, origin=origin)
        )
    return tuple(found)


def _finding(
    seen: Evaluated, term: str, text: str, remedy: str, which: Sequence[Active], *, certain: bool, origin: str
) -> Finding:
    first = which[0]
    return RULE.finding(
        Subject(kind="run", name="model", key=first.module or None),
        f"{text}{f'; {origin}' if origin else ''}. What is measured so is not what the model can do.",
        evidence={"term": term, "modules": [active.module for active in which][:64], "what": first.what},
        location=Location(path=first.path, line=first.line, step=seen.step, rank=seen.rank),
        severity=Severity.ERROR if certain else Severity.WARNING,
        confidence=Confidence.HIGH if term == "ignores" or certain else Confidence.MEDIUM,
        remedy=f"{remedy}; if it is the method, declare [training] dropout_in_evaluation = true",
    )


def _named(active: Active) -> str:
    return active.module or "the model"


def _at(active: Active) -> str:
    return f"{active.path}:{active.line}"


def _more(others: int) -> str:
    return f", and {others} more" if others else ""
