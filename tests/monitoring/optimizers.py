"""The optimizers whose updates are attested, each with settings that use every part of its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import optim

RULES: dict[str, Callable[..., Any]] = {
    "SGD": lambda p, **kw: optim.SGD(p, lr=0.0517, weight_decay=1e-2, **kw),
    "SGD momentum": lambda p, **kw: optim.SGD(p, lr=0.0517, momentum=0.9, dampening=0.1, weight_decay=1e-2, **kw),
    "SGD nesterov": lambda p, **kw: optim.SGD(p, lr=0.0517, momentum=0.9, nesterov=True, weight_decay=1e-2, **kw),
    "Adam": lambda p, **kw: optim.Adam(p, lr=1e-3, weight_decay=1e-1, **kw),
    "Adam amsgrad": lambda p, **kw: optim.Adam(p, lr=1e-3, amsgrad=True, weight_decay=1e-1, maximize=True, **kw),
    "AdamW": lambda p, **kw: optim.AdamW(p, lr=1e-3, weight_decay=1e-1, **kw),
    "RMSprop": lambda p, **kw: optim.RMSprop(p, lr=1e-3, weight_decay=1e-1, **kw),
    "RMSprop centered": lambda p, **kw: optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True, weight_decay=1e-1, **kw),
    "Adagrad": lambda p, **kw: optim.Adagrad(
        p, lr=1e-2, lr_decay=1e-2, initial_accumulator_value=1e-4, eps=1e-8, weight_decay=1e-1, **kw
    ),
    "Adadelta": lambda p, **kw: optim.Adadelta(p, lr=1.0, weight_decay=1e-1, **kw),
    "NAdam": lambda p, **kw: optim.NAdam(p, lr=1e-3, weight_decay=1e-1, **kw),
    "NAdam decoupled": lambda p, **kw: optim.NAdam(p, lr=1e-3, weight_decay=1e-1, decoupled_weight_decay=True, **kw),
    "RAdam": lambda p, **kw: optim.RAdam(p, lr=1e-3, weight_decay=1e-1, **kw),
    "RAdam decoupled": lambda p, **kw: optim.RAdam(p, lr=1e-3, weight_decay=1e-1, decoupled_weight_decay=True, **kw),
    "Adamax": lambda p, **kw: optim.Adamax(p, lr=1e-3, weight_decay=1e-1, **kw),
    "ASGD": lambda p, **kw: optim.ASGD(p, lr=0.05, t0=6, weight_decay=1e-1, **kw),
}
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")
PAIRS = [(rule, kind) for rule in RULES for kind in IMPLEMENTATIONS if kind != "fused" or rule.split()[0] in FUSED]
QUICK = ("AdamW", "SGD momentum")
# All of them, of which the everyday run takes the single-tensor ones and two rules in every implementation.
MARKED = [
    pytest.param(rule, kind, marks=[] if kind == "single" or rule in QUICK else [pytest.mark.slow], id=f"{rule}-{kind}")
    for rule, kind in PAIRS
]
TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def train_in(kind: str, network: Any, optimizer: Any, steps: int) -> None:
    """Train on made-up data with parameters of type *kind*."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(32, 16, generator=generator)
        loss = torch.nn.functional.cross_entropy(network(x.to(TYPES[kind])).float(), x[:, :5].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
