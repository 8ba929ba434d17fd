"""Whether single tensors get gradients of another size than in the approved run.

Sizes are shares: the logarithm of a tensor's gradient norm over that of all tensors together, which changes less in the course of a
run than norms do. Compared are medians over the looks of a run, in units of the median absolute deviation, with a floor of a factor
of twenty; so this only ever warns. A tensor whose gradient is exactly zero at every look, from the step on at which it was not in
the approved run of the same program, is an error: it is not being trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="gradient-drift",
    summary="a tensor's gradient is of another size than in the approved run",
    severity=Severity.WARNING,
    confidence=Confidence.LOW,
)
MIN_LOOKS, MIN_ZERO_LOOKS = 8, 5
FLOOR, DEVIATIONS = math.log(20.0), 8.0
MAX_TENSORS = 128
MAX_LOOKS = 64
MAX_NAMED = 8


@dataclass(slots=True, eq=False)
class GradientSizes:
    """Follows the gradient norms of one optimizer's tensors from look to look, the newest `MAX_LOOKS` of them."""

    kind: str
    rank: int
    names: tuple[str, ...]
    looks: int = 0
    shares: dict[str, list[float]] = field(default_factory=dict)
    zeros: dict[str, list[int]] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)

    def add(self, step: int, norms: tuple[float, ...]) -> None:
        """One look: a norm for each tensor."""
        whole = math.sqrt(sum(norm * norm for norm in norms))
        if not math.isfinite(whole) or whole <= 0:
            return
        self.looks += 1
        for name, norm in list(zip(self.names, norms, strict=True))[:MAX_TENSORS]:
            if norm > 0:
                self.shares[name] = [*self.shares.get(name, ()), math.log(norm / whole)][-MAX_LOOKS:]
                self.since.setdefault(name, step)
            else:
                self.zeros[name] = [*self.zeros.get(name, ()), step][-MAX_LOOKS:]

    def learned(self) -> dict[str, list[float]]:
        """For each tensor: median and deviation of its share, how many looks, the first step at which it was not zero."""
        found = {}
        for name, shares in self.shares.items():
            middle = median(shares)
            spread = median([abs(share - middle) for share in shares])
            found[name] = [round(middle, 4), round(spread, 4), len(shares), self.since[name]]
        return found


def check_sizes(now: GradientSizes, learned: Mapping[str, Any], origin: str) -> tuple[Finding, ...]:
    """At the end of a run: a warning that names the tensors whose share is another one than in the run *origin*."""
    off: list[tuple[float, str]] = []
    for name, (middle, spread, looks, *_) in learned.items():
        shares = now.shares.get(name, [])
        if len(shares) < MIN_LOOKS or looks < MIN_LOOKS:
            continue
        here = median(shares)
        scale = 1.4826 * max(spread, median([abs(share - here) for share in shares]))
        if abs(here - middle) > max(FLOOR, DEVIATIONS * scale):
            off.append((math.exp(here - middle), name))
    if not off:
        return ()
    off.sort(key=lambda item: -abs(math.log(item[0])))
    told = ", ".join(f"{name} ({ratio:.3g} times)" for ratio, name in off[:MAX_NAMED])
    more = f" and {len(off) - MAX_NAMED} more" if len(off) > MAX_NAMED else ""
    return (
        RULE.finding(
            Subject(kind="run", name=now.kind, key=off[0][1] if len(off) == 1 else None),
            f"The share of the whole gradient that some tensors get is another one than in {origin}: {told}{more}.",
            evidence={"ratios": {name: ratio for ratio, name in off[:64]}, "looks": now.looks},
            location=Location(rank=now.rank),
            remedy="compare initialisation, learning rates, frozen layers and loss weights of the two runs",
        ),
    )


def check_zero(now: GradientSizes, learned: Mapping[str, Any], origin: str, *, same_program: bool) -> tuple[Finding, ...]:
    """A finding when tensors that were trained in the run *origin* have had no gradient at any look since the step it began there."""
    still = []
    for name, (*_, looks, since) in learned.items():
        steps = [step for step in now.zeros.get(name, []) if step >= since]
        if name not in now.shares and looks >= MIN_ZERO_LOOKS and len(steps) >= MIN_ZERO_LOOKS:
            still.append((steps[0], name))
    if not still:
        return ()
    names = [name for _, name in still]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return (
        RULE.finding(
            Subject(kind="run", name=now.kind, key="zero"),
            f"The gradient of {', '.join(names[:MAX_NAMED])}{more} has been zero at every look since step {still[0][0]}, "
            f"and it was not in {origin}: nothing is learned there.",
            evidence={"tensors": names[:64], "looks": len(now.zeros[names[0]])},
            location=Location(step=still[0][0], rank=now.rank),
            severity=Severity.ERROR if same_program else Severity.WARNING,
            confidence=Confidence.HIGH if same_program else Confidence.MEDIUM,
            remedy="look for requires_grad, detach, no_grad, a dead activation, or a hook on these tensors",
        ),
    )
