"""What was observed of data loaders and of passes over them. The adapters' side of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = "NDArray[np.int64]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSeen:
    """
    A data loader as its program set it up; loaders set up alike count as one, `number` tells them apart.

    `dataset`, `sampler` and `batch_sampler` are names of classes. `batch_size` is None where a batch sampler of the
    program's own decides. Not `indexed` are iterable data sets, which have no indices.
    """

    number: int
    rank: int
    dataset: str
    sampler: str
    batch_sampler: str
    batch_size: int | None
    drop_last: bool
    workers: int
    indexed: bool = True

    @property
    def title(self) -> str:
        """How findings call it."""
        return f"loader of {self.dataset}" + (f" (no. {self.number + 1})" if self.number else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSeen:
    """
    One pass over a loader (an epoch of it, from 1) and what it is to give.

    `rule` is how the sampler chooses: `in order`, `each once`, `drawn`, `part` of the indices, the `share` of one of
    several ranks, or `unknown`. `items` is the length of the data set, `samples` the number of indices to come; None
    where they cannot be known. `step` counts the optimizer steps before it began.
    """

    loader: LoaderSeen
    epoch: int
    step: int
    rule: str
    sampler: str
    items: int | None
    samples: int | None
    batch_size: int | None
    drop_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSeen:
    """How one rank takes its share: the sampler's own `rank` of `replicas`, its `seed`, and the `epoch` that it was told."""

    rank: int
    replicas: int
    seed: int
    epoch: int
    shuffled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Where a pass stopped giving what its sampler was to give: position from 0, and the indices from there on."""

    at: int
    expected: tuple[int, ...]
    given: tuple[int, ...]
