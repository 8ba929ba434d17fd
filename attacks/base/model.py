"""A small classifier of handwritten digits."""

import torch
from torch import nn


class Digits(nn.Module):
    """64 pixels in, ten logits out."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(pixels / 16.0))
        return self.last(torch.relu(self.second(hidden)))
