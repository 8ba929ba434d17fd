"""Collating: what a loader's collate function makes of its items: fewer rows than items, or other labels.

Looks from inside of the object that fetches for an iterator, in the process that does so (a worker's own line is opened by
`workers.py`). The collate function that the program gave stays what it is. Only batches in which something differs travel;
labels are compared on some batches only. Batches of a class of the program's own are not understood and not judged.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import _utils, dataloader

from truerun.adapters.pytorch.batch_labels import NAMES
from truerun.adapters.pytorch.sampler_order import name_of
from truerun.adapters.pytorch.sense import Sense

MAX_FIELDS, MAX_DEPTH = 32, 3
CHECKED_BATCHES, CLOSELY_OF_256 = 4, 64
MAX_FRAMES = 64


class Collating(Sense):
    """A frame for a batch with fewer rows than items, and for one with other labels than its items."""

    name = "collating"
    made = frames = left = 0

    def install(self) -> None:
        """Look at every object that fetches for a loader's iterator, as it is made."""
        self.wrap_result(dataloader._DatasetKind, "create_fetcher", self._begin)  # noqa: SLF001 (there is no public place)

    def _begin(self, fetcher: Any, *_: Any, **__: Any) -> None:
        if fetcher.auto_collation:
            fetcher.collate_fn = self._looking(fetcher.collate_fn, name_of(type(fetcher.dataset)))

    def _looking(self, original: Callable[..., Any], dataset: str) -> Callable[..., Any]:
        def wrapper(items: Any) -> Any:
            if not self._is_due():
                return original(items)
            before: list[Any] = []
            self.tell(self._before, (items, before), {})
            batch = original(items)
            self.tell(self._after, (batch, items, before, original, dataset), {})
            return batch

        return wrapper

    def _is_due(self) -> bool:
        """Whether this batch is looked at: the first ones, then one in eight, which nobody can foresee."""
        self.made += 1
        if self.made <= CHECKED_BATCHES:
            return not self.off
        self.left -= 1
        if self.left > 0:
            return False
        self.left = 1 + os.urandom(1)[0] % 15
        return not self.off

    def _before(self, items: Any, before: list[Any]) -> None:
        """Collate functions take items apart, so labels are read first."""
        if type(items) is list and self.frames < MAX_FRAMES and self.probe.budget.affords(time.perf_counter()):
            closely = self.made <= CHECKED_BATCHES or os.urandom(1)[0] < CLOSELY_OF_256
            before += [len(items), _item_labels(items) if closely else {}]

    def _after(self, batch: Any, items: Any, before: list[Any], original: Any, dataset: str) -> None:
        if not before:
            return
        count, labels = before
        rows = _rows(batch)
        if rows is not None and rows < count:
            # Of items that were taken apart less is counted, which can only hide a loss.
            present = [item for item in items if item is not None]
            if rows < len(present):
                what = {"items": len(present), "rows": rows, "in": sum(map(_elements, present)), "out": _elements(batch)}
                self._hand_over(original, dataset, what)
        for key, values in labels.items():
            given = _field(batch, key)
            if given is not None and len(given) == count and given != values:
                columns = {"labels": ("f8", values.tobytes()), "targets": ("f8", given.tobytes())}
                self._hand_over(original, dataset, {"field": str(key)[:80], "items": count}, columns)

    def _hand_over(self, original: Any, dataset: str, what: dict[str, Any], columns: Any = None) -> None:
        self.frames += 1
        named = getattr(original, "__qualname__", None) or type(original).__qualname__
        about = {"dataset": dataset, "collate": str(named)[:200], "default": original is _utils.collate.default_collate}
        self.probe.channel.send({"kind": "collated", "step": self.probe.steps, **about, **what}, columns)


def _item_labels(items: list[Any]) -> dict[Any, array[float]]:
    """Fields that hold one whole number in every item, by their key or position."""
    first = items[0] if items and all(item is not None for item in items) else None
    if isinstance(first, Mapping):
        keys: list[Any] = [name for name in NAMES if name in first]
    elif isinstance(first, tuple | list):
        keys = list(range(min(len(first), MAX_FIELDS)))
    else:
        return {}
    found = {}
    for key in keys:
        if _whole(first[key]) is not None:
            values = [value for item in items if (value := _whole(item[key])) is not None]
            if len(values) == len(items):
                found[key] = array("d", values)
    return found


def _whole(value: Any) -> float | None:
    """A whole number as it may stand in an item, None for anything else."""
    if type(value) is torch.Tensor:
        plain = value.dim() == 0 and value.device.type == "cpu" and not value.is_floating_point() and not value.is_complex()
        return float(value) if plain else None
    if type(value) in (int, bool) or (type(value).__module__ == "numpy" and getattr(value, "dtype", None) is not None):
        return float(value) if getattr(value, "ndim", 0) == 0 and float(value).is_integer() else None
    return None


def _field(batch: Any, key: Any) -> array[float] | None:
    """The field *key* of a batch, where it is one whole number for each row."""
    field: Any
    if isinstance(batch, Mapping):
        field = batch.get(key)
    elif isinstance(batch, tuple | list) and type(key) is int and key < len(batch):
        field = batch[key]
    else:
        return None
    if type(field) is not torch.Tensor or field.device.type != "cpu" or field.dim() != 1 or field.is_floating_point():
        return None
    return array("d", field.tolist())


def _rows(batch: Any) -> int | None:
    """The largest number of rows that any field of *batch* has; None for a batch that holds no tensor or anything not understood."""
    lengths: list[int] = []
    return max(lengths) if _walk(batch, lengths, 0) and lengths else None


def _walk(part: Any, lengths: list[int], depth: int) -> bool:
    if isinstance(part, torch.Tensor):
        lengths.append(int(part.shape[0]) if part.dim() else 0)
        return True
    if depth >= MAX_DEPTH:
        return False
    if isinstance(part, Mapping):
        return all(_walk(value, lengths, depth + 1) for value in list(part.values())[:MAX_FIELDS])
    if isinstance(part, list | tuple):
        if not any(isinstance(value, torch.Tensor) for value in part[:MAX_FIELDS]):  # else it is fields, not rows
            lengths.append(len(part))
        return all(_walk(value, lengths, depth + 1) for value in part[:MAX_FIELDS])
    return part is None or isinstance(part, str | bytes | int | float)


def _elements(part: Any, depth: int = 0) -> int:
    """How many numbers a field, an item or a batch holds."""
    if isinstance(part, torch.Tensor):
        return int(part.numel())
    if type(part).__module__ == "numpy":
        return int(getattr(part, "size", 0))
    if isinstance(part, bool | int | float):
        return 1
    if depth >= MAX_DEPTH:
        return 0
    if isinstance(part, Mapping):
        return sum(_elements(value, depth + 1) for value in list(part.values())[:MAX_FIELDS])
    if isinstance(part, list | tuple):
        if part and isinstance(part[0], int | float):
            return len(part)
        return sum(_elements(value, depth + 1) for value in part)
    return 0
