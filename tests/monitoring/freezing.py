"""A network with a backbone and a head, trained under watch with parts of it frozen, for the rules about what trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tests.monitoring.loop import watching

from truerun.apps.observing import Observer
from truerun.monitoring.reference import Reference

Part = Callable[["Network"], object]


class Network(torch.nn.Module):
    """`detached` cuts the backbone off from the loss."""

    def __init__(self, *, detached: bool = False) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU())
        self.head = torch.nn.Linear(32, 5)
        self.spare = torch.nn.Linear(4, 4)
        self.detached = detached

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.backbone(x)
        return self.head(features.detach() if self.detached else features)


def learn(
    folder: Path,
    before: Part = id,
    held: Callable[[Network], Iterable[Any]] = lambda network: network.parameters(),
    *,
    reference: Reference | None = None,
    steps: int = 10,
    detached: bool = False,
    wrap: Callable[[Any], Any] = lambda network: network,
) -> Observer:
    """*before* freezes, *held* chooses what the optimizer gets."""
    torch.manual_seed(0)
    network = Network(detached=detached)
    before(network)
    run = wrap(network)
    optimizer = torch.optim.AdamW(list(held(network)), lr=0.01)
    with watching(folder, reference) as observer:
        for step in range(steps):
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(run(x), x[:, :5].argmax(1)).backward()
            optimizer.step()
    return observer


def learned(observer: Observer, *, same_program: bool = True) -> Reference:
    """What a later run is given of the run that *observer* saw."""
    return Reference(learned=observer.effective["learned"], learned_from="run 7 (entry 3)", same_program=same_program)


def freeze(network: Network) -> None:
    """As it should be."""
    network.backbone.requires_grad_(False)
