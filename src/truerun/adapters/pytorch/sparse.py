"""Reads sparse gradients, as embeddings with `sparse=True` make them: values at given coordinates, and where they lie.

A gradient may hold a row several times; what counts is the sum, and torch may add in any order, so the number of summands
and the sum of their magnitudes travel too. Covers tensors whose first dimension alone is sparse.
"""

from __future__ import annotations

from typing import Any

import torch


def readable(tensor: Any) -> bool:
    """Whether this module can read *tensor*."""
    return bool(tensor.layout == torch.sparse_coo and tensor.sparse_dim() == 1)


def values_at(tensor: Any, index: Any) -> Any:
    """Values of the sparse *tensor* at flat positions *index*; zero where it holds none."""
    whole = tensor.coalesce()
    return _looked_up(whole.indices()[0], whole.values(), tensor, index)


def summands_at(tensor: Any, index: Any) -> tuple[Any, Any]:
    """How many entries of *tensor* make up each position of *index* (0: none), and the sum of their magnitudes; float32 or 64."""
    entries, values = tensor._indices()[0], tensor._values()  # noqa: SLF001 (before they are added up)
    rows, place, often = torch.unique(entries, return_inverse=True, return_counts=True)
    reach = torch.zeros((len(rows), *values.shape[1:]), dtype=values.dtype, device=values.device).index_add_(
        0, place, values.abs()
    )
    counts = often.to(torch.float32).reshape(-1, *[1] * (values.dim() - 1)).expand(reach.shape)
    return _looked_up(rows, counts, tensor, index), _looked_up(rows, reach, tensor, index)


def touched(tensor: Any, index: Any) -> Any:
    """*index* with its first half moved into rows that *tensor* holds, as many of them as it has."""
    entries = tensor._indices()[0]  # noqa: SLF001 (any order will do)
    width = _width(tensor)
    if not len(entries) or not width:
        return index
    moved, half = index.clone(), (len(index) + 1) // 2
    position = index[:half] % (len(entries) * width)
    moved[:half] = entries[position // width] * width + position % width
    return moved


def _looked_up(rows: Any, values: Any, tensor: Any, index: Any) -> Any:
    """Values of sorted *rows* at flat positions *index* of a tensor like *tensor*."""
    width = _width(tensor)
    found = torch.zeros(len(index), dtype=values.dtype, device=values.device)
    if not len(rows) or not width:
        return found
    wanted = index // width
    place = torch.searchsorted(rows, wanted).clamp_(max=len(rows) - 1)
    here = rows[place] == wanted
    found[here] = values.reshape(len(rows), width)[place[here], index[here] % width]
    return found


def _width(tensor: Any) -> int:
    """Elements in a row."""
    return int(tensor.numel() // max(1, tensor.shape[0]))
