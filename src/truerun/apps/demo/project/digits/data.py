"""Read tables of scanned digits: one row a scan, columns p00 to p63 hold the pixels, label the digit."""

from collections.abc import Iterator

import polars as pl
import torch

PIXELS = [f"p{number:02d}" for number in range(64)]


def load_table(path: str, pixel_max: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as a float tensor (rows, 64) between 0 and 1, and labels as integers (rows,)."""
    table = pl.read_parquet(path)
    images = torch.from_numpy(table.select(PIXELS).to_numpy().astype("float32") / pixel_max)
    labels = torch.from_numpy(table["label"].to_numpy().astype("int64"))
    return images, labels


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Row numbers of one epoch in random order, in batches."""
    order = torch.randperm(rows, generator=generator)
    yield from order.split(size)
