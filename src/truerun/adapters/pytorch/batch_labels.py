"""Reads the labels of a batch: from what a loader yielded, and from the graph of a loss that is about to run backward.

Also holds single items of a batch against the tensors of a TensorDataset.

Labels are one number for each item: a tensor of the batch's length (or that length by one) of a whole-number type, or of
floating-point numbers where there is no other. Reads CPU tensors only, so that no device is waited for. Keeps no tensor.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

NAMES = ("labels", "label", "targets", "target", "y")
MAX_FIELDS, MAX_LABELS, MAX_NODES = 32, 4, 24
MAX_COMPARED = 1_000_000
LOSSES = frozenset({"NllLossBackward0", "BinaryCrossEntropyWithLogitsBackward0", "BinaryCrossEntropyBackward0"})


def label_keys(batch: Any, size: int) -> list[Any]:
    """
    Where in *batch*, of *size* items, labels may stand, the likeliest place first; empty where nothing looks like labels.

    A field called label or target comes first, then the last field of whole numbers, then the last of other numbers.
    """
    if isinstance(batch, Mapping):
        keys = list(batch)[:MAX_FIELDS][::-1]
        named = [name for name in NAMES if name in keys]
    elif isinstance(batch, list | tuple):
        keys, named = list(range(len(batch)))[:MAX_FIELDS][::-1], []
    else:
        return []
    others = [key for key in keys if key not in named and _fits(batch[key], size)]
    others.sort(key=lambda key: batch[key].is_floating_point())
    return [*(name for name in named if _fits(batch[name], size)), *others][:MAX_LABELS]


def labels_at(batch: Any, key: Any, size: int) -> array[float] | None:
    """The numbers of the field *key* of *batch*; None where it does not hold one for each of *size* items."""
    try:
        field = batch[key]
    except (LookupError, TypeError):
        return None
    return _numbers(field) if _fits(field, size) else None


def differing_field(dataset: Any, index: int, batch: Any, place: int) -> int | None:
    """
    The first field of the item at *place* in *batch* that is not bit for bit what *dataset* holds at *index*; None where all are.

    None too for every data set but a TensorDataset, or a `Subset` of one: to ask another may not be without effect.
    """
    while type(dataset) is Subset:
        dataset, index = dataset.dataset, dataset.indices[index]
    if type(dataset) is not TensorDataset or not isinstance(batch, list | tuple) or len(batch) != len(dataset.tensors):
        return None
    for field, (whole, given) in enumerate(zip(dataset.tensors, batch, strict=True)):
        if type(given) is not torch.Tensor or given.device.type != "cpu" or whole.device.type != "cpu" or given.is_sparse:
            continue
        row, item = whole[index], given[place]
        if row.numel() <= MAX_COMPARED and not _same_bits(row, item):
            return field
    return None


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
            if target is not None and _fits(target, target.numel()) and target.numel():
                yield _numbers(target)
        else:
            queue.extend(following for following, _ in node.next_functions)


def _fits(field: Any, size: int) -> bool:
    return (
        type(field) is torch.Tensor
        and field.shape in ((size,), (size, 1))
        and field.device.type == "cpu"
        and field.layout == torch.strided
        and not field.is_complex()
    )


def _same_bits(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    # NaN is unequal to itself.
    first, second = (some.detach().contiguous().reshape(-1).view(torch.uint8) for some in (one, other))
    return bool(torch.equal(first, second))


def _numbers(field: Any) -> array[float]:
    # No torch operation: those cost several times as much in the middle of a program.
    values = field.tolist()
    return array("d", values if field.dim() == 1 else [row[0] for row in values])
