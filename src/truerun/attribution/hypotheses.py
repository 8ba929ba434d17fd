"""Every explanation that is weighed: no harmful change, one, two (each alone, only together, one worsening another), three.

Says nothing about evidence; `posterior.py` does. Beyond three harmful changes the search still ends, because what is left
after the first three shows as a rerun without the suspects that is not back; it is then searched again.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_FOR_TRIPLES = 40
MOST_FOR_PAIRS = 300


class Shape(enum.IntEnum):
    """How the members of an explanation act."""

    NONE = 0
    SINGLE = 1
    EACH = 2  # either of two alone degrades
    TOGETHER = 3  # only the two together degrade
    WORSENS = 4  # the first alone degrades, the second only makes that worse
    TRIPLE = 5  # each of three alone degrades


# The share of prior belief of each shape: one cause is likelier than two, two than three. No person, role or past is in it.
SHARE = {
    Shape.NONE: 0.05,
    Shape.SINGLE: 0.50,
    Shape.EACH: 0.25,
    Shape.TOGETHER: 0.10,
    Shape.WORSENS: 0.02,
    Shape.TRIPLE: 0.08,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """
    The explanations over *count* candidates: `members` (H, 3) holds positions, -1 where there is none; `shape` (H,);
    `log_prior` (H,), natural logarithms, normalised.
    """

    count: int
    members: npt.NDArray[np.int64]
    shape: npt.NDArray[np.int8]
    log_prior: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.shape)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Space:
        """Only the explanations *chosen*; priors keep their proportions."""
        return Space(count=self.count, members=self.members[chosen], shape=self.shape[chosen], log_prior=self.log_prior[chosen])

    def involves(self) -> npt.NDArray[np.float64]:
        """(H, count): 1 where a candidate is part of an explanation."""
        table = np.zeros((len(self), self.count + 1))
        rows = np.arange(len(self))
        for column in range(3):
            table[rows, self.members[:, column]] = 1.0
        return table[:, : self.count]  # position -1 fell into the last column


def enumerate_space(weights: Sequence[float]) -> Space:
    """All explanations over `len(weights)` candidates; a *weight* (0 to 1) lowers every explanation a candidate is in."""
    count = len(weights)
    logs = np.log(np.maximum(np.asarray(weights, dtype=float), 1e-300))
    blocks = [_block(Shape.NONE, [()], logs), _block(Shape.SINGLE, [(i,) for i in range(count)], logs)]
    if 2 <= count <= MOST_FOR_PAIRS:
        pairs = list(itertools.combinations(range(count), 2))
        blocks += [_block(shape, pairs, logs) for shape in (Shape.EACH, Shape.TOGETHER)]
        blocks.append(_block(Shape.WORSENS, list(itertools.permutations(range(count), 2)), logs))
    if 3 <= count <= MOST_FOR_TRIPLES:
        blocks.append(_block(Shape.TRIPLE, list(itertools.combinations(range(count), 3)), logs))
    log_prior = np.concatenate([block[2] for block in blocks if len(block[1])])
    return Space(
        count=count,
        members=np.concatenate([block[0] for block in blocks if len(block[1])]),
        shape=np.concatenate([block[1] for block in blocks if len(block[1])]),
        log_prior=log_prior - np.logaddexp.reduce(log_prior),
    )


def _block(
    shape: Shape, groups: Sequence[tuple[int, ...]], logs: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    members: npt.NDArray[np.int64] = np.full((len(groups), 3), -1, dtype=np.int64)
    size = len(groups[0]) if groups else 0
    if size:
        members[:, :size] = np.asarray(groups, dtype=np.int64)
    weight = logs[members[:, :size]].sum(axis=1) if size else np.zeros(len(groups))
    share = np.log(SHARE[shape]) - np.log(max(len(groups), 1))
    return members, np.full(len(groups), int(shape), dtype=np.int8), weight + share
