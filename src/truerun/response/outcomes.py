"""Who is worse off: the recall of each class in a run's outputs beside its reference's, with an interval.

The interval is Wilson's for a binomial share (Wilson, 1927), 95 %. Compares shares; it cannot say why a class got worse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from truerun.core.incident import Outcome

Z = 1.959963984540054
Pairs = Iterable[tuple[str, str]]


def measure_outcomes(run: Pairs, reference: Pairs = ()) -> tuple[Outcome, ...]:
    """One outcome a class, worst loss first; each pair is (label, prediction) of one example."""
    counts, right = _tally(run)
    before_counts, before_right = _tally(reference)
    outcomes = []
    for name, count in counts.items():
        low, high = wilson(right[name], count)
        before = before_right[name] / before_counts[name] if before_counts[name] else None
        outcomes.append(Outcome(name=name, count=count, recall=right[name] / count, low=low, high=high, reference=before))
    return tuple(sorted(outcomes, key=lambda outcome: (outcome.recall - (outcome.reference or 0.0), outcome.name)))


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of *right* out of *count*; raises ValueError for a count of zero."""
    if count <= 0:
        raise ValueError("an interval needs at least one example")
    share = right / count
    centre = share + Z * Z / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _tally(pairs: Pairs) -> tuple[Counter[str], Counter[str]]:
    counts: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for label, prediction in pairs:
        counts[label] += 1
        right[label] += label == prediction
    return counts, right
