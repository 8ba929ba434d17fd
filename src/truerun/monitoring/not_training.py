"""Parameters that are meant to train, and do not: frozen, held by no optimizer, or cut off from the loss.

Meant by declaration (`[training] trained = ["*"]`), else as in the approved run, else by what the program itself does: it computes
gradients that no optimizer holds, or gives an optimizer parameters most of which never get one. Judged after eight steps.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.training_set import ASKS, GIVEN, HELD, MOVED, Expected, ParametersSeen, listed, matching

RULE = Rule(
    id="not-training",
    summary="parameters that are meant to train do not",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)
MOST = 0.5


def check_training(seen: ParametersSeen, expected: Expected) -> tuple[Finding, ...]:
    """Findings for parameters that do not train: against the declaration, the approved run, or the program's own effort."""
    if expected.trained:
        wrong = [name for name in matching(list(seen.sizes), expected.trained) if not seen.trains(name)]
        early = [name for name in wrong if seen.state[name] & (ASKS | HELD) != ASKS | HELD]
        return _found(seen, wrong if seen.settled else early, "[training] trained declares that they train", Severity.ERROR)
    then = expected.trained_then(seen)
    if not seen.settled:
        return ()
    if then is not None:
        wrong = [name for name in then if then[name] and not seen.trains(name)]
        level = Severity.ERROR if expected.same_program else Severity.WARNING
        return _found(seen, wrong, f"in {expected.origin} they did", level)
    if expected.earlier:
        return ()
    return _held_by_none(seen) + _cut_off(seen)


def _why(state: int) -> str:
    if not state & ASKS:
        return "frozen (requires_grad is False)"
    if not state & HELD:
        return "held by no optimizer"
    return "without a gradient"


def _found(seen: ParametersSeen, names: list[str], words: str, severity: Severity) -> tuple[Finding, ...]:
    if not names:
        return ()
    reasons = sorted({_why(seen.state[name]) for name in names})
    return (
        RULE.finding(
            Subject(kind="run", name=seen.kind, key=names[0] if len(names) == 1 else None),
            f"By step {seen.step}, {len(names)} parameters do not train: {listed(names)}, {' or '.join(reasons)}; {words}.",
            evidence={"tensors": names[:64], "reasons": reasons},
            location=Location(step=seen.step, rank=seen.rank),
            severity=severity,
            confidence=Confidence.HIGH if severity is Severity.ERROR else Confidence.MEDIUM,
            remedy="look at requires_grad, at what the optimizer is given, and for detach() or no_grad() on the way to the loss",
        ),
    )


def _held_by_none(seen: ParametersSeen) -> tuple[Finding, ...]:
    names = [name for name, state in seen.state.items() if state & (ASKS | HELD | GIVEN | MOVED) == ASKS | GIVEN]
    return _found(seen, names, "backward() computes gradients for them that nobody uses", Severity.WARNING)


def _cut_off(seen: ParametersSeen) -> tuple[Finding, ...]:
    held = [name for name, state in seen.state.items() if state & (ASKS | HELD) == ASKS | HELD]
    names = [name for name in held if not seen.trains(name)]
    share = sum(seen.sizes[name] for name in names) / max(1, sum(seen.sizes[name] for name in held))
    if share < MOST:
        return ()
    return _found(seen, names, f"that is {share:.0%} of what the optimizer holds", Severity.WARNING)
