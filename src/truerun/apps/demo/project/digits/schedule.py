"""The learning rate over time."""

import torch


def warmup_and_decay(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear from nearly nothing to the full rate in *warmup* steps, then linear to nearly nothing at the last of *steps*."""

    def factor(step: int) -> float:
        rising = (step + 1) / max(1, warmup)
        falling = (steps - step) / max(1, steps - warmup)
        return max(0.0, min(1.0, rising, falling))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
