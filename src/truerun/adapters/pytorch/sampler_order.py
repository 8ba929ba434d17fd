"""What torch's own samplers are to give: how many of which indices, and in which order, recomputed from the generator's state.

The rules are those of `torch/utils/data/sampler.py` and `distributed.py`, unchanged from torch 2.0 to 2.13. Only the classes
themselves are known, not what derives from them. Works on generators of its own; the program's are read and never drawn from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import BatchSampler, DistributedSampler, Subset
from torch.utils.data.sampler import RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

MAX_ITEMS = 4_000_000
FIRST_RELEASE, LAST_RELEASE = (2, 0), (2, 13)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What one pass over a loader is to give.

    `rule` is `in order`, `each once`, `drawn` (with replacement or by weight), `part` (the sampler's own list of indices),
    `share` (this rank's part of all) or `unknown`. `items` is the length of the data set, `samples` how many indices the
    sampler gives; None where that cannot be known.
    """

    rule: str
    sampler: str
    items: int | None
    samples: int | None
    batch_size: int | None
    drop_last: bool
    rank: int | None = None
    replicas: int | None = None
    epoch: int | None = None
    seed: int | None = None
    shuffled: bool | None = None


def name_of(kind: type) -> str:
    """The name of a class as findings show it: torch's own without their module."""
    return kind.__qualname__ if kind.__module__.startswith("torch.utils.data") else f"{kind.__module__}.{kind.__qualname__}"


def plan_of(index_sampler: Any, dataset: Any) -> Plan:
    """The plan of *index_sampler*, the sampler that a loader takes its indices or lists of indices from."""
    batched = type(index_sampler) is BatchSampler
    sampler = index_sampler.sampler if batched else index_sampler
    size = getattr(index_sampler, "batch_size", None)
    kind = type(sampler)
    items: int | None = None
    samples: int | None = None
    rule = "unknown"
    extra: dict[str, Any] = {}
    if kind is SequentialSampler:
        rule, items = "in order", len(sampler.data_source)
        samples = items
    elif kind is RandomSampler:
        items, samples = len(sampler.data_source), sampler.num_samples
        rule = "drawn" if sampler.replacement else "each once"
    elif kind is WeightedRandomSampler:
        rule, items, samples = "drawn", len(sampler.weights), sampler.num_samples
    elif kind is SubsetRandomSampler:
        rule, samples = "part", len(sampler.indices)
    elif kind is DistributedSampler:
        rule, items, samples = "share", len(sampler.dataset), sampler.num_samples
        extra = {"rank": sampler.rank, "replicas": sampler.num_replicas, "epoch": sampler.epoch, "seed": sampler.seed}
        extra["shuffled"] = sampler.shuffle is True
    return Plan(
        rule=rule,
        sampler=name_of(kind),
        items=items if items is not None else _length(dataset),
        samples=samples,
        batch_size=size if type(size) is int else None,
        drop_last=getattr(index_sampler, "drop_last", False) is True,
        **extra,
    )


def root_of(dataset: Any) -> tuple[int | None, Sequence[int] | None]:
    """The length of the data set that *dataset* is a `Subset` of, over any number of them, and which of its items it has."""
    rows: Sequence[int] | None = None
    while type(dataset) is Subset:
        rows = list(dataset.indices) if rows is None else [dataset.indices[row] for row in rows]
        dataset = dataset.dataset
        if len(rows) > MAX_ITEMS:
            return None, None
    return _length(dataset), rows


def expected_order(index_sampler: Any) -> Any:
    """
    The indices that *index_sampler* is about to give, as an int64 tensor; None where they cannot be foreseen.

    To be called right before the first of them is drawn.
    """
    if type(index_sampler) is not BatchSampler or not _foreseeable():
        return None
    sampler = index_sampler.sampler
    kind = type(sampler)
    if kind not in _ORDERS or len(sampler) > MAX_ITEMS:
        return None
    return _ORDERS[kind](sampler)


def _foreseeable() -> bool:
    found = re.match(r"(\d+)\.(\d+)", str(torch.__version__))
    known = found is not None and FIRST_RELEASE <= (int(found[1]), int(found[2])) <= LAST_RELEASE
    # Under a mode the program's own code would see our calls, or tensors would be made on another device.
    return known and not torch._C._len_torch_function_stack() and not torch._C._len_torch_dispatch_stack()  # noqa: SLF001


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except Exception:
        return None


def _copy(generator: Any) -> Any:
    """A generator in the state of *generator*, or of the default one; None for one that is not on the CPU."""
    if generator is not None and generator.device.type != "cpu":
        return None
    copy = torch.Generator()
    copy.set_state(torch.get_rng_state() if generator is None else generator.get_state())
    return copy


def _sequential(sampler: Any) -> Any:
    return torch.arange(len(sampler.data_source))


def _random(sampler: Any) -> Any:
    items, samples = len(sampler.data_source), sampler.num_samples
    if not 0 < items <= MAX_ITEMS:
        return None
    # With a generator of the program's, later parts are drawn when others may have drawn from it too.
    if sampler.generator is not None and (sampler.replacement or samples > items):
        return None
    generator = _copy(sampler.generator)
    if generator is None:
        return None
    if sampler.generator is None:
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_(generator=generator).item()))
    if sampler.replacement:
        sizes = [32] * (samples // 32) + [samples % 32]
        return torch.cat([torch.randint(high=items, size=(size,), dtype=torch.int64, generator=generator) for size in sizes])
    rounds = [torch.randperm(items, generator=generator) for _ in range(samples // items + 1)]
    return torch.cat(rounds)[:samples]


def _subset(sampler: Any) -> Any:
    generator = _copy(sampler.generator)
    if generator is None:
        return None
    return torch.as_tensor(list(sampler.indices), dtype=torch.int64)[torch.randperm(len(sampler.indices), generator=generator)]


def _weighted(sampler: Any) -> Any:
    generator = _copy(sampler.generator)
    if generator is None or sampler.weights.device.type != "cpu":
        return None
    return torch.multinomial(sampler.weights, sampler.num_samples, sampler.replacement, generator=generator)


def _distributed(sampler: Any) -> Any:
    items = len(sampler.dataset)
    if not 0 < items <= MAX_ITEMS:
        return None
    if sampler.shuffle:
        order = torch.randperm(items, generator=torch.Generator().manual_seed(sampler.seed + sampler.epoch))
    else:
        order = torch.arange(items)
    total = sampler.num_samples * sampler.num_replicas
    # Without drop_last the last shares are filled up from the front; with it `total` is not larger than `items`.
    return order.repeat(-(-total // items))[:total][sampler.rank :: sampler.num_replicas]


_ORDERS = {
    SequentialSampler: _sequential,
    RandomSampler: _random,
    SubsetRandomSampler: _subset,
    WeightedRandomSampler: _weighted,
    DistributedSampler: _distributed,
}
