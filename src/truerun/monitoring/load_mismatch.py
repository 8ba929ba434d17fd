"""Continuity across a checkpoint: the first step after a resume begins with what `load_state_dict` was given.

Compared where an optimizer's own state was loaded, so that a run that only starts from pretrained weights, and changes some of
them first, has nothing to say. Looks at four secret coordinates of every parameter and state; cannot see an edit that misses
them, nor whether the checkpoint itself is the right one (`checkpoint-drift`).
"""

from __future__ import annotations

from collections.abc import Sequence

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="load-mismatch",
    summary="a run resumed with other parameters or optimizer state than it loaded",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0018",
)
MAX_NAMED = 8


def check_loaded(kind: str, differ: Sequence[tuple[str, str, int]], compared: int, step: int, rank: int) -> tuple[Finding, ...]:
    """One finding for all that *differ*: (tensor, `p` or the state's name, values that are not what was loaded)."""
    if not differ:
        return ()
    tensors = list(dict.fromkeys(tensor for tensor, _, _ in differ))
    parts = sorted({"parameters" if name == "p" else f"state {name}" for _, name, _ in differ})
    listed = ", ".join(tensors[:MAX_NAMED]) + (f" and {len(tensors) - MAX_NAMED} more" if len(tensors) > MAX_NAMED else "")
    bad = sum(count for _, _, count in differ)
    return (
        RULE.finding(
            Subject(kind="run", name=kind, key=tensors[0] if len(tensors) == 1 else None),
            f"Step {step} did not begin with what load_state_dict was given: {' and '.join(parts)} of {listed} hold other values, "
            f"{bad} of {compared} looked at.",
            evidence={"tensors": tensors[:64], "parts": parts, "fraction": bad / max(1, compared)},
            location=Location(step=step, rank=rank),
            remedy="look for code that writes to parameters or optimizer.state after the checkpoint is loaded, and compare the "
            "installed torch with its RECORD (truerun check environment)",
        ),
    )
