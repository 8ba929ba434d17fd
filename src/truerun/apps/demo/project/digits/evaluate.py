"""Measure a model on rows it has not seen."""

import pathlib

import polars as pl
import torch
from torch import nn


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The most likely digit for each image."""
    model.eval()
    return model(images).argmax(1)


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose digit is right."""
    return (predict(model, images) == labels).double().mean().item()


def write_predictions(path: pathlib.Path, labels: torch.Tensor, predictions: torch.Tensor) -> None:
    """One row an image: its label and what the model said."""
    pl.DataFrame({"label": labels.numpy(), "prediction": predictions.numpy()}).write_parquet(path)
