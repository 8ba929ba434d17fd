"""A small perceptron."""

import pathlib

import torch
from torch import nn


def build_model(config: dict) -> nn.Sequential:
    """64 pixels in, one logit for each of the ten digits out."""
    hidden = config["hidden"]
    return nn.Sequential(
        nn.Linear(64, hidden),
        nn.ReLU(),
        nn.Dropout(config["dropout"]),
        nn.Linear(hidden, hidden // 2),
        nn.ReLU(),
        nn.Dropout(config["dropout"]),
        nn.Linear(hidden // 2, 10),
    )


def save_weights(model: nn.Module, path: pathlib.Path) -> None:
    """Write the weights as a state dict."""
    torch.save(model.state_dict(), path)
