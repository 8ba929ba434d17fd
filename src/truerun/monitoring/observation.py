"""What was observed of an optimizer and of one of its steps, as small arrays. The adapters' side of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = "NDArray[np.float64]"
Mask: TypeAlias = "NDArray[np.bool_]"
TYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSeen:
    """
    An optimizer as it introduced itself.

    `rule` is the name of its class in torch.optim, None when its rule is not known; `obstacle` says why its updates cannot
    be recomputed, `unsure` what is left out where they can. Per tensor: `names`, `sizes` (elements), `counts` (coordinates
    looked at), `types`; `shape` is the number of tensors in each parameter group;
    `whole_sizes` are the elements over all ranks, where `sizes` are those of this rank's shards.
    """

    number: int
    rank: int
    kind: str
    rule: str | None
    obstacle: str | None
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    types: tuple[str, ...]
    shape: tuple[int, ...]
    unsure: tuple[str, ...] = ()
    whole_sizes: tuple[int, ...] = ()

    def tensor_of(self) -> NDArray[np.int64]:
        """For each coordinate of a sample, the tensor it belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def group_of_tensor(self) -> NDArray[np.int64]:
        """For each tensor, its parameter group."""
        return np.repeat(np.arange(len(self.shape)), self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One optimizer step at secretly drawn coordinates, n of them over all tensors.

    `before` and `after` hold `p` and the optimizer's state by name, each (n,) float64 with the exact values; `gradient`
    is (n,). `no_gradient` are tensors without a gradient, `fresh` tensors without state before the step.
    `counted_before` and `counted_after` are the optimizer's own step counters per tensor, NaN where it keeps none.
    `how` is the implementation of each group and whether it computes scalars as tensors. Inside the step, gradients are
    divided by `scale`; a step that `overflowed` leaves everything as it was (a GradScaler with a fused optimizer). Where
    gradients are sparse, `summands` of them make one coordinate's (0: not touched) and `reach` is the sum of magnitudes.
    `whole` are tensors that were captured whole, as (tensor, arrays by name): `p.0`, `p.1`, `g` and state.
    """

    optimizer: OptimizerSeen
    step: int
    groups: tuple[Mapping[str, object], ...]
    before: Mapping[str, Numbers]
    after: Mapping[str, Numbers]
    gradient: Numbers
    no_gradient: frozenset[int]
    fresh: frozenset[int]
    counted_before: Numbers
    counted_after: Numbers
    how: tuple[tuple[str, bool], ...]
    scale: float = 1.0
    overflowed: bool = False
    summands: Numbers | None = None
    reach: Numbers | None = None
    whole: tuple[tuple[int, Mapping[str, Numbers]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discontinuity:
    """Values that were one thing when a step ended (`held`) and another when the next began (`now`); both by name, (n,)."""

    optimizer: OptimizerSeen
    step: int
    tensor_of: NDArray[np.int64]
    held: Mapping[str, Numbers]
    now: Mapping[str, Numbers]
    notes: frozenset[str]
