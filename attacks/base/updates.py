"""The optimizer, as the configuration names it."""

import torch


def make_optimizer(model: torch.nn.Module, name: str, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    kinds = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam, "SGD": torch.optim.SGD}
    more = {"momentum": 0.9} if name == "SGD" else {}
    return kinds[name](model.parameters(), lr=lr, weight_decay=weight_decay, **more)


def after_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Called once after every optimizer step; nothing to do by default."""
