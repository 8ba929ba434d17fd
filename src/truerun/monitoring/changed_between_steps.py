"""Continuity: parameters and optimizer state at the start of a step are bit for bit what the step before left behind.

Legal in between: `load_state_dict` of a model or an optimizer, and ranks that average or send each other their parameters. A run whose method writes to parameters between steps
(weight clipping, swapping in averaged weights) declares `[monitoring] between_steps = "allowed"`. Looks at a few secret
coordinates a step; cannot see an edit that misses them, nor one that is undone before the next step.
"""

from __future__ import annotations

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import Discontinuity, Mask

RULE = Rule(
    id="changed-between-steps",
    summary="parameters or optimizer state changed between two optimizer steps",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018",
)
LEGAL = frozenset({"load_state_dict", "ranks_averaged"})
MAX_NAMED = 8


def check_continuity(seen: Discontinuity) -> tuple[Finding, ...]:
    """One finding that names the tensors and how many of the values looked at differ; none where it was legal."""
    if seen.notes & LEGAL:
        return ()
    wrong: set[int] = set()
    parts: list[str] = []
    bad = total = 0
    for name, held in seen.held.items():
        now = seen.now.get(name)
        # Equality of bits: NaN equals itself, and 0.0 is not -0.0.
        differs: Mask = np.ones(len(held), bool) if now is None else held.view(np.int64) != now.view(np.int64)
        total += len(held)
        if differs.any():
            bad += int(differs.sum())
            parts.append("parameters" if name == "p" else f"state {name}")
            wrong |= {int(tensor) for tensor in seen.tensor_of[differs]}
    if not wrong:
        return ()
    names = [seen.optimizer.names[tensor] for tensor in sorted(wrong)]
    listed = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
    return (
        RULE.finding(
            Subject(kind="run", name=" and ".join(parts), key=names[0] if len(names) == 1 else None),
            f"Between step {seen.step - 1} and step {seen.step} something other than the optimizer changed "
            f"{' and '.join(parts)} of {listed}: {bad} of {total} values looked at are not what step {seen.step - 1} left.",
            evidence={"tensors": names[:64], "fraction": bad / total, "largest": _largest(seen)},
            location=Location(step=seen.step, rank=seen.optimizer.rank),
            remedy='find the code that writes to parameters; if that is the method, declare [monitoring] between_steps = "allowed"',
        ),
    )


def _largest(seen: Discontinuity) -> float | None:
    """The largest change of a parameter among the values looked at, None where it is not a finite number."""
    if "p" not in seen.held or "p" not in seen.now or not len(seen.held["p"]):
        return None
    with np.errstate(all="ignore"):
        change = float(np.max(np.abs(seen.now["p"] - seen.held["p"])))
    return change if np.isfinite(change) else None
