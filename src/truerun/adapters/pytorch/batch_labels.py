"""Reads the labels of a batch: from what a loader yielded, and from the graph of a loss that is about to run backward.

Labels are one number for each item: a tensor of the batch's length (or that length by one) of a whole-number type, or of
floating-point numbers where there is no other. Reads CPU tensors only, so that no device is waited for. Keeps no tensor.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch

NAMES = ("labels", "label", "targets", "target", "y")
MAX_FIELDS, MAX_LABELS, MAX_NODES = 32, 4, 24
LOSSES = frozenset({"NllLossBackward0", "BinaryCrossEntropyWithLogitsBackward0", "BinaryCrossEntropyBackward0"})


def labels_of(batch: Any, size: int) -> list[array[float]]:
    """
    The fields of *batch*, of *size* items, that may be labels, the likeliest first; empty where none looks like labels.

    A field called label or target comes first, then the last field of whole numbers, then the last of other numbers.
    """
    if isinstance(batch, Mapping):
        fields = [value for name in NAMES if (value := batch.get(name)) is not None] + list(batch.values())[:MAX_FIELDS][::-1]
        named = sum(batch.get(name) is not None for name in NAMES)
    elif isinstance(batch, list | tuple):
        fields, named = list(batch[:MAX_FIELDS][::-1]), 0
    else:
        return []
    fitting = {id(field): (place >= named and field.is_floating_point(), place, field) for place, field in _fitting(fields, size)}
    return [_numbers(field) for _, _, field in sorted(fitting.values(), key=lambda one: one[:2])[:MAX_LABELS]]


def targets_of(tensors: Any) -> Iterator[array[float]]:
    """What classification losses in the graph of *tensors* compare with, one number an item; the losses nearest the end first."""
    first = tensors if isinstance(tensors, list | tuple) else (tensors,)
    queue = deque(tensor.grad_fn for tensor in first if isinstance(tensor, torch.Tensor))
    for _ in range(MAX_NODES):
        if not queue:
            return
        node = queue.popleft()
        if node is None:
            continue
        if node.name() in LOSSES:
            saved = node._raw_saved_target  # noqa: SLF001 (unlike _saved_target it calls no hook of the program's)
            target = getattr(saved, "data", None) if getattr(saved, "unpack_hook", None) is None else None
            if target is not None and _fits(target, target.numel()):
                yield _numbers(target)
        else:
            queue.extend(following for following, _ in node.next_functions)


def _fitting(fields: list[Any], size: int) -> Iterator[tuple[int, Any]]:
    # From the back, so that a field met twice keeps its first place.
    return ((place, field) for place, field in reversed(list(enumerate(fields))) if _fits(field, size))


def _fits(field: Any, size: int) -> bool:
    return (
        type(field) is torch.Tensor
        and field.device.type == "cpu"
        and field.layout == torch.strided
        and field.numel() == size
        and (field.dim() == 1 or (field.dim() == 2 and field.shape[1] == 1))
        and not field.is_complex()
    )


def _numbers(field: Any) -> array[float]:
    return array("d", field.detach().flatten().tolist())
