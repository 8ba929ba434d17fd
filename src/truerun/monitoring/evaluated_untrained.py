"""A layer whose evaluation needs an estimate that only training makes, evaluated before any was made.

Known: `torch.nn.utils.spectral_norm` (pytorch issue 51800), which divides by a random number then. `torch.nn.utils.parametrizations`
estimates when the layer is made and is not concerned; nor is a layer whose estimate was loaded from a checkpoint.
"""

from __future__ import annotations

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="evaluated-untrained",
    summary="a layer was evaluated before it had the estimate that it divides by",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
)


def check_estimated(layer: str, step: int, rank: int) -> tuple[Finding, ...]:
    """A finding for a spectral norm of *layer* whose first pass was in evaluation mode, after *step* steps."""
    return (
        RULE.finding(
            Subject(kind="run", name="spectral_norm", key=layer),
            f"{layer} under spectral_norm was evaluated before any pass in training mode: its weight was divided by a random "
            "estimate, so what it gave then means nothing.",
            location=Location(step=step, rank=rank),
            remedy="use torch.nn.utils.parametrizations.spectral_norm, or run one pass in training mode, or load a checkpoint first",
        ),
    )
