"""Replay: which changes alter the computation at all, told from the first few steps, bit for bit.

The reference with a group of changes is replayed for k steps with the run's own seed. The same fingerprints: no change of the
group did anything in those steps. Different: the group is split in halves, down to single changes and the first step each one
alters. A change that alters nothing yet may still act after step k, so its prior falls and does not vanish.
Bitwise difference proves that the computation changed, never that it got worse: `convict.py` judges that by the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from truerun.attribution.laboratory import Laboratory, Subset, first_difference

STILL_POSSIBLE = 0.05  # weight of a change that was inert in the first steps: it may act later


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """
    `first_step`: the first step that each active change alters; `inert`: changes that altered nothing in the replayed
    steps; changes in neither were not singled out. `steps_used` counts optimizer steps; `deterministic` is False when two
    replays of the reference differ, and then nothing else is known.
    """

    deterministic: bool
    first_step: Mapping[int, int] = field(default_factory=dict)
    inert: Subset = frozenset()
    steps_used: int = 0
    replays: int = 0

    def weight(self, position: int) -> float:
        """Factor for the prior belief that the change at *position* is harmful."""
        return STILL_POSSIBLE if position in self.inert else 1.0


def replay(
    laboratory: Laboratory, positions: Sequence[int], steps: int, closed: Callable[[Subset], Subset] = lambda subset: subset
) -> Replayed:
    """Split *positions* into what alters the first *steps* steps and what does not; about log2 replays per active change."""
    search = _Replay(laboratory, steps, closed)
    return search.run(tuple(positions))


class _Replay:
    def __init__(self, laboratory: Laboratory, steps: int, closed: Callable[[Subset], Subset]) -> None:
        self.laboratory, self.steps, self.closed = laboratory, steps, closed
        self.reference: tuple[str, ...] = ()
        self.first_step: dict[int, int] = {}
        self.inert: set[int] = set()
        self.used = 0
        self.replays = 0

    def run(self, positions: tuple[int, ...]) -> Replayed:
        twice = self._replay([frozenset(), frozenset()])
        self.reference = twice[0]
        if not twice[0] or twice[0] != twice[1]:
            return self._result(deterministic=False)
        # Beyond this many replays a full search by metric is the better use of time.
        most = 8 + 4 * math.ceil(math.log2(max(len(positions), 2)))
        waiting = [positions] if positions else []
        while waiting and self.replays < most:
            batch, waiting = waiting[: self.laboratory.parallel], waiting[self.laboratory.parallel :]
            seen = self._replay([self.closed(frozenset(group)) for group in batch])
            for group, fingerprints in zip(batch, seen, strict=True):
                waiting += self._judge(group, fingerprints)
        return self._result(deterministic=True)

    def _judge(self, group: tuple[int, ...], fingerprints: tuple[str, ...]) -> list[tuple[int, ...]]:
        step = first_difference(self.reference, fingerprints)
        if step is None:
            self.inert.update(group)
            return []
        if len(group) == 1:
            self.first_step[group[0]] = step
            return []
        middle = len(group) // 2
        return [group[:middle], group[middle:]]

    def _replay(self, subsets: list[Subset]) -> list[tuple[str, ...]]:
        result = self.laboratory.replay(subsets, self.steps)
        self.replays += len(result)
        self.used += sum(len(item.fingerprints) for item in result)
        return [item.fingerprints for item in result]

    def _result(self, *, deterministic: bool) -> Replayed:
        return Replayed(
            deterministic=deterministic,
            first_step=dict(self.first_step),
            inert=frozenset(self.inert),
            steps_used=self.used,
            replays=self.replays,
        )
