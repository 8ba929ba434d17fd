"""Reads an optimizer without changing it: what rule it follows, with which hyperparameters, and values at given coordinates.

Covers torch.optim.SGD, Adam and AdamW on dense float32 or float64 tensors; says why when it cannot. Draws no randomness,
moves nothing, keeps no reference to a gradient. Only a copy of a few hundred numbers leaves the tensors.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Mapping, Sequence
from typing import Any

import torch

RULES = {
    ("torch.optim.sgd", "SGD"): ("SGD", ("momentum_buffer",)),
    ("torch.optim.adam", "Adam"): ("Adam", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    ("torch.optim.adamw", "AdamW"): ("AdamW", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
}
HYPERPARAMETERS = (
    "lr",
    "weight_decay",
    "momentum",
    "dampening",
    "nesterov",
    "betas",
    "eps",
    "amsgrad",
    "maximize",
    "decoupled_weight_decay",
    "initial_lr",
)
MAX_NAMED_OBJECTS = 2_000_000


def rule_of(optimizer: Any) -> tuple[str | None, tuple[str, ...]]:
    """The update rule's name and the names of its state, or (None, ()) for an optimizer this does not know."""
    kind = type(optimizer)
    return RULES.get((kind.__module__, kind.__qualname__), (None, ()))


def obstacle(optimizer: Any) -> str | None:
    """Why the update of *optimizer* cannot be recomputed, in words; None when it can."""
    kind = type(optimizer)
    if rule_of(optimizer)[0] is None:
        return f"the optimizer {kind.__module__}.{kind.__qualname__} is not one of SGD, Adam, AdamW of torch.optim"
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    odd = {str(tensor.dtype) for tensor in tensors if tensor.dtype not in (torch.float32, torch.float64)}
    if odd:
        return f"parameters of type {', '.join(sorted(odd))}"
    if any(type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided for tensor in tensors):
        return "parameters that are sharded, sparse or of a special tensor class"
    return None


def hyperparameters(group: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The numbers of one parameter group that its update depends on, as plain values."""
    return tuple((name, _plain(group[name])) for name in HYPERPARAMETERS if name in group)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    return value.item() if isinstance(value, torch.Tensor) else value


def names_of(tensors: Sequence[Any]) -> list[str]:
    """Names of *tensors* as the largest module that holds them calls them; `tensor 3` where no module does."""
    return model_of(tensors)[1]


def model_of(tensors: Sequence[Any]) -> tuple[Any | None, list[str]]:
    """
    The largest module that holds *tensors*, None where there is none, and what it calls them.

    Looks once through the objects that Python's garbage collector tracks; it asks for their type only.
    """
    wanted = {id(tensor): position for position, tensor in enumerate(tensors)}
    best: dict[int, str] = {}
    model = None
    objects = gc.get_objects()
    if len(objects) <= MAX_NAMED_OBJECTS:
        kinds = _kinds_of(torch.nn.Module)
        for thing in [thing for thing in objects if id(type(thing)) in kinds]:
            try:
                named = list(torch.nn.Module.named_parameters(thing))
            except Exception:  # noqa: S112 (a module half built or of an odd kind has no names to give)
                continue
            found = {wanted[id(tensor)]: name for name, tensor in named if id(tensor) in wanted}
            # Among modules that hold equally many, the outermost has the longest names.
            if (len(found), sum(map(len, found.values()))) > (len(best), sum(map(len, best.values()))):
                best, model = found, thing
    return model, [best.get(position, f"tensor {position}") for position in range(len(tensors))]


def _kinds_of(base: type) -> dict[int, type]:
    """*base* and every class below it, by identity: a comparison of numbers for each of a million objects, and nothing of theirs."""
    found = {id(base): base}
    waiting = [base]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for kind in below:
            if id(kind) not in found:
                found[id(kind)] = kind
                waiting.append(kind)
    return found


def gather(tensors: Sequence[Any], indices: Sequence[Any]) -> tuple[str, bytes]:
    """Values of *tensors* (None reads as zeros) at flat *indices*, one after another, as (type, little-endian bytes)."""
    taken = [
        torch.take(tensor.detach(), index) if tensor is not None else torch.zeros(len(index), device=index.device)
        for tensor, index in zip(tensors, indices, strict=True)
    ]
    if not taken:
        return "f4", b""
    joined = (torch.cat(taken) if len({tensor.device for tensor in taken}) == 1 else torch.cat([t.cpu() for t in taken])).cpu()
    size = joined.element_size()
    return f"f{size}", ctypes.string_at(joined.data_ptr(), joined.numel() * size)


def state_of(optimizer: Any, tensors: Sequence[Any], name: str) -> list[Any]:
    """The optimizer's state *name* of each tensor, None where there is none yet."""
    state = optimizer.state
    return [state[tensor].get(name) if tensor in state else None for tensor in tensors]


def counters(optimizer: Any, tensors: Sequence[Any]) -> list[float | None]:
    """The optimizer's own step counter of each tensor, None where it keeps none."""
    return [None if count is None else float(count) for count in state_of(optimizer, tensors, "step")]
