"""What several ranks showed of the same tensors at the same step, as small arrays. The adapters' side of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from truerun.monitoring.observation import Mask, Numbers

WRAPPED, UNWRAPPED, REPLICATED, UNPROMISED = "ddp", "ddp-gone", "dtensor", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The copies of one optimizer's tensors that `ranks` may hold; `kind` is the optimizer's, `names` are the tensors'."""

    kind: str
    names: tuple[str, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLook:
    """
    One rank's look at one step.

    `sums` are checksums for each of the copies' tensors, (tensors,): of the gradient before the step (`g`), of parameters
    (`p`) and optimizer state (`s`) after it. `values` are values at coordinates that all ranks share, (n,): parameters
    (`p0`) and gradients (`g`) before the step, gradients right after `backward` (`r`), parameters after it (`p`);
    `tensor_of` is (n,). `base` is the rank's step at which the ranks began to count together; `waiting` says that the last
    forward pass ran inside `no_sync`; `averaged` counts how often the ranks averaged their parameters.

    `why` they should be copies: `ddp` (wrapped in DistributedDataParallel), `ddp-gone` (they were, and the wrapper is no
    more), `dtensor` (replicated), `none` (nothing promises it). `hooks` are the communication hooks of the wrapper.
    """

    rank: int
    sums: Mapping[str, Numbers]
    values: Mapping[str, Numbers]
    tensor_of: Numbers
    base: int = 0
    waiting: bool = False
    averaged: int = 0
    why: str = UNPROMISED
    hooks: tuple[str, ...] = ()


def differing(looks: Sequence[RankLook], name: str) -> Mask:
    """(tensors,): whether the checksums or the values of *name* are not the same on all ranks."""
    first = looks[0]
    wrong: Mask = np.zeros(len(first.sums["p"]), bool)
    for other in looks[1:]:
        if name in first.sums:
            wrong |= first.sums[name] != other.sums[name]
        apart = ~same_bits(first.values[name], other.values[name]) if name in first.values else np.zeros(0, bool)
        wrong[np.unique(first.tensor_of[: len(apart)][apart]).astype(int)] = True
    return wrong


def same_bits(one: Numbers, other: Numbers) -> Mask:
    """Elementwise equality in which any NaN equals any other and 0.0 is not -0.0."""
    equal: Mask = one.view(np.int64) == other.view(np.int64)
    return equal | (np.isnan(one) & np.isnan(other))


def parties(looks: Sequence[RankLook], name: str) -> list[list[int]]:
    """The ranks by what they hold of *name*, the largest party first."""
    found: list[tuple[RankLook, list[int]]] = []
    for look in looks:
        for first, ranks in found:
            if not differing((first, look), name).any():
                ranks.append(look.rank)
                break
        else:
            found.append((look, [look.rank]))
    return sorted((ranks for _, ranks in found), key=len, reverse=True)
