"""Initial values written over what was being trained, or again and again over one another before training began.

A parameter gets its module's own initial values and often the project's on top of them; five times or more is a traversal that
meets each module once for every parent. A new optimizer for newly initialised parameters (the next fold) is no such thing. Sees
`torch.nn.init` only; other edits between steps are `changed-between-steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="initialised-again",
    summary="parameters were initialised again while they were being trained, or many times over",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
MANY = 5
NAMED = 6


def check_while_training(kind: str, names: Sequence[str], step: int, rank: int) -> tuple[Finding, ...]:
    """A finding for parameters *names* that got new initial values before *step* of the optimizer that trains them."""
    if not names:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=kind, key=names[0] if len(names) == 1 else None),
            f"Before step {step} torch.nn.init wrote new initial values over {_listed(names)}, which the optimizer had already "
            "trained: what they had learned is gone, and the optimizer goes on with its old state.",
            evidence={"term": "training", "tensors": list(names)},
            location=Location(step=step, rank=rank),
            remedy="look for a call of reset_parameters() or an init function inside the loop; "
            'if it is the method, declare [monitoring] between_steps = "allowed"',
        ),
    )


def check_many_times(kind: str, counts: Mapping[str, int], rank: int) -> tuple[Finding, ...]:
    """A warning for parameters that were initialised many times before the first step; *counts* by name."""
    many = {name: count for name, count in counts.items() if count >= MANY}
    if not many:
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=kind),
            f"Before training began, {_listed(list(many))} had been initialised up to {max(many.values())} times: "
            "only the last time counts, and it may not be the one that is meant.",
            evidence={"term": "before", "counts": many},
            location=Location(step=1, rank=rank),
            severity=Severity.WARNING,
            confidence=Confidence.MEDIUM,
            remedy="let the function that initialises touch a module's own parameters only: named_parameters(recurse=False)",
        ),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
