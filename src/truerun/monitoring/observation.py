"""What was observed of an optimizer and of one of its steps, as small arrays. The adapters' side of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = "NDArray[np.float64]"
Mask: TypeAlias = "NDArray[np.bool_]"
PRECISION = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
SMALLEST = {"float32": float(np.finfo(np.float32).tiny), "float64": float(np.finfo(np.float64).tiny)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSeen:
    """
    An optimizer as it introduced itself.

    `rule` is `SGD`, `Adam` or `AdamW`, None when it is none of them; `obstacle` says why its updates cannot be
    recomputed. Per tensor: `names`, `sizes` (elements), `counts` (coordinates looked at), `types`; `shape` is the number
    of tensors in each parameter group.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Discontinuity:
    """Values that were one thing when a step ended (`held`) and another when the next began (`now`); both by name, (n,)."""

    optimizer: OptimizerSeen
    step: int
    tensor_of: NDArray[np.int64]
    held: Mapping[str, Numbers]
    now: Mapping[str, Numbers]
    notes: frozenset[str]
