"""Says once what was not checked and why: an optimizer, or a part of it, whose update cannot be recomputed."""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import OptimizerSeen

RULE = Rule(
    id="update-unchecked",
    summary="the updates of an optimizer could not be recomputed",
    severity=Severity.NOTE,
    confidence=Confidence.CERTAIN,
)
BY_HAND_BACKWARDS = 128


def check_obstacle(seen: OptimizerSeen) -> tuple[Finding, ...]:
    """A note when the updates of *seen* cannot be recomputed, or one for each thing that is left out."""
    if seen.obstacle is None:
        return tuple(_left_out(seen, words) for words in seen.unsure)
    return (
        RULE.finding(
            Subject(kind="run", name=seen.kind),
            f"Could not tell whether the updates of {seen.kind} are right: {seen.obstacle}. "
            "Steps, losses and hyperparameters are recorded all the same.",
            evidence={"obstacle": seen.obstacle, "parameters": sum(seen.sizes)},
        ),
    )


def check_by_hand(backwards: int, optimizers: int, rank: int, *, ended: bool) -> tuple[Finding, ...]:
    """A note when gradients are computed again and again in a process that has no optimizer of torch.optim."""
    if optimizers or backwards < (2 if ended else BY_HAND_BACKWARDS):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name="updates", key="by hand"),
            f"Could not tell whether updates are right: backward() ran {backwards} times{'' if ended else ' so far'} and the process "
            "has no optimizer of torch.optim. Parameters are updated by hand, or nothing is trained.",
            evidence={"backwards": backwards},
            location=Location(step=0, rank=rank),
        ),
    )


def _left_out(seen: OptimizerSeen, words: str) -> Finding:
    return RULE.finding(
        Subject(kind="run", name=seen.kind, key=words[:60]),
        f"Could not tell whether all updates of {seen.kind} are right: {words}. Everything else is checked.",
        evidence={"unsure": words, "parameters": sum(seen.sizes)},
    )
