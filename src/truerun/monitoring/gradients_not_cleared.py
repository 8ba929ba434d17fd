"""Gradients that nobody clears between two steps of an optimizer, so that each step uses the sum of all before it.

Gradient accumulation is no such thing: there the clearing comes once a step. What is judged is whether anything of the gradient
that the last step used is still there when the last `backward` before the next one begins. Cannot see gradients that
`torch.autograd.grad` computes, nor sparse ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="gradients-not-cleared",
    summary="the gradients of a step are still there when those of the next are added",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
)


def check_cleared(kind: str, kept: Sequence[str], looked: int, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding where of *looked* tensors the ones named *kept* had the gradient of the last two steps left before *step*."""
    if not kept:
        return ()
    every = len(kept) == looked
    return (
        RULE.finding(
            Subject(kind="run", name=kind, key="gradients" if every else kept[0]),
            f"At step {step} the gradients of {', '.join(kept)} are a sum over this step and the ones before: "
            f"nothing cleared them after the last two steps ({len(kept)} of {looked} tensors looked at).",
            evidence={"tensors": list(kept), "looked": looked},
            location=Location(step=step, rank=rank),
            severity=Severity.ERROR if every else Severity.WARNING,
            remedy="call optimizer.zero_grad() once for each step, after it or before the first backward()"
            + ("" if every else "; these tensors are cleared by somebody else's zero_grad() or by none"),
        ),
    )
