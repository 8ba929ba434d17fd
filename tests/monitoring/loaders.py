"""Data and a training loop over a data loader, for the rules about batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

ITEMS, CLASSES = 200, 5


def data(items: int = ITEMS) -> TensorDataset:
    """Made-up rows of eight numbers with five classes, in no order."""
    generator = torch.Generator().manual_seed(7)
    return TensorDataset(torch.randn(items, 8, generator=generator), torch.randint(0, CLASSES, (items,), generator=generator))


def loader(dataset: Any = None, **arguments: Any) -> Any:
    """A shuffling loader of batches of sixteen, unless told otherwise."""
    shuffle = {} if {"sampler", "batch_sampler", "shuffle"} & set(arguments) else {"shuffle": True}
    size = {} if {"batch_sampler", "batch_size"} & set(arguments) else {"batch_size": 16}
    return DataLoader(data() if dataset is None else dataset, **{**shuffle, **size, **arguments})


def learn(
    batches: Iterable[Any],
    epochs: int = 2,
    *,
    look: Callable[[Any], tuple[Any, Any]] = tuple,  # type: ignore[assignment]
    after_epoch: Callable[[int], object] | None = None,
) -> list[float]:
    """Train a small network on *batches*; `look` gets inputs and labels out of one. Returns the losses."""
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for epoch in range(1, epochs + 1):
        for batch in batches:
            inputs, labels = look(batch)
            loss = torch.nn.functional.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if after_epoch is not None:
            after_epoch(epoch)
    return losses
