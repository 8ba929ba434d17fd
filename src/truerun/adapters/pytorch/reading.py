"""Reads an optimizer without changing it: what rule it follows, with which hyperparameters, and values at given coordinates.

Covers the rules of torch.optim in `RULES` on dense or sharded tensors of float32 or float64, and of bfloat16 or float16 on
the CPU; says why when it cannot. Draws no randomness, moves nothing, keeps no reference to a gradient. Only a copy of a few
hundred numbers leaves the tensors; half precision travels as float32, exactly.
"""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from truerun.adapters.pytorch import sparse

RULES = {
    ("torch.optim.sgd", "SGD"): ("momentum_buffer",),
    ("torch.optim.asgd", "ASGD"): ("ax", "eta", "mu"),
    ("torch.optim.rmsprop", "RMSprop"): ("square_avg", "grad_avg", "momentum_buffer"),
    ("torch.optim.adagrad", "Adagrad"): ("sum",),
    ("torch.optim.adadelta", "Adadelta"): ("square_avg", "acc_delta"),
    ("torch.optim.adam", "Adam"): ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    ("torch.optim.adamw", "AdamW"): ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    ("torch.optim.sparse_adam", "SparseAdam"): ("exp_avg", "exp_avg_sq"),
    ("torch.optim.nadam", "NAdam"): ("exp_avg", "exp_avg_sq", "mu_product"),
    ("torch.optim.radam", "RAdam"): ("exp_avg", "exp_avg_sq"),
    ("torch.optim.adamax", "Adamax"): ("exp_avg", "exp_inf"),
    ("torch.optim", "Muon"): ("momentum_buffer",),
    ("torch.optim", "Adafactor"): (),
}
# States of rules whose updates depend on whole tensors, which are then captured whole.
WHOLE = {"Muon": ("momentum_buffer",), "Adafactor": ("row_var", "col_var", "variance")}
MAX_WHOLE_ELEMENTS = 262_144
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
    "alpha",
    "centered",
    "rho",
    "lr_decay",
    "initial_accumulator_value",
    "momentum_decay",
    "lambd",
    "t0",
    "ns_coefficients",
    "ns_steps",
    "adjust_lr_fn",
    "beta2_decay",
    "d",
    "initial_lr",
)
FULL = (torch.float32, torch.float64)
HALF = (torch.bfloat16, torch.float16)
# In half precision these kernels do something else than they document (torch 2.13 on the CPU).
UNSURE = (("SGD", "fused"), ("Adagrad", "fused"))
MAX_NAMED_OBJECTS = 2_000_000
_given: list[weakref.ref[Any]] = []


def rule_of(optimizer: Any) -> tuple[str | None, tuple[str, ...]]:
    """The update rule's name and the names of its state, or (None, ()) for an optimizer this does not know."""
    kind = type(optimizer)
    states = RULES.get((kind.__module__, kind.__qualname__))
    return (None, ()) if states is None else (kind.__qualname__, states)


def obstacle(optimizer: Any) -> str | None:
    """Why the update of *optimizer* cannot be recomputed, in words; None when it can."""
    kind = type(optimizer)
    if rule_of(optimizer)[0] is None:
        return f"the optimizer {kind.__module__}.{kind.__qualname__} is not one whose rule is known here"
    tensors = [local(tensor) for tensor in _all(optimizer)]
    if any(tensor is None or tensor.layout != torch.strided for tensor in tensors):
        return "parameters that are sparse or of a special tensor class"
    odd = {str(tensor.dtype) for tensor in tensors if tensor.dtype not in FULL + HALF}
    if odd:
        return f"parameters of type {', '.join(sorted(odd))}"
    half = [tensor for tensor in tensors if tensor.dtype in HALF]
    if rule_of(optimizer)[0] in WHOLE and (half or any(hasattr(tensor, "placements") for tensor in _all(optimizer))):
        return "a rule over whole tensors, on sharded parameters or in half precision"
    if any(tensor.device.type != "cpu" for tensor in half):
        return f"parameters in half precision on {half[0].device.type}"
    if half and any(tensors for _, tensors in map(implementation, optimizer.param_groups)):
        return "parameters in half precision with a learning rate that is a tensor, or a differentiable step"
    return None


def unsure(optimizer: Any) -> list[str]:
    """What the check of *optimizer* has to leave out, in words."""
    rule, _ = rule_of(optimizer)
    half = any(tensor.dtype in HALF for tensor in _all(optimizer))
    hows = {implementation(group)[0] for group in optimizer.param_groups}
    large = sum(tensor.numel() > MAX_WHOLE_ELEMENTS for tensor in _all(optimizer)) if rule in WHOLE else 0
    if large:
        return [f"{large} tensors of more than {MAX_WHOLE_ELEMENTS:,} elements are not recomputed whole"]
    return [
        f"the {how} {name} of this torch computes something else in half precision than it documents, so all that is looked "
        "at is whether parameters move at all"
        for name, how in UNSURE
        if half and rule == name and how in hows
    ]


def _all(optimizer: Any) -> list[Any]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def implementation(group: Mapping[str, Any]) -> tuple[str, bool]:
    """Which implementation steps *group* (`single`, `foreach`, `fused`), and whether it computes scalars as tensors."""
    how = "fused" if group.get("fused") else "foreach" if group.get("foreach") else "single"
    tensors = bool(group.get("capturable") or group.get("differentiable"))
    numbers = (group.get("lr"), *group.get("betas", ()))
    return how, tensors or any(isinstance(number, torch.Tensor) for number in numbers)


def local(tensor: Any) -> Any:
    """The part of *tensor* that this process holds, without autograd and without communication; None for a class that is not known."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return tensor.detach()
    placements = getattr(tensor, "placements", None)
    if type(tensor).__name__ != "DTensor" or placements is None or any(placement.is_partial() for placement in placements):
        return None
    return local(tensor._local_tensor)  # noqa: SLF001 (to_local would take part in autograd)


def hyperparameters(group: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The numbers of one parameter group that its update depends on, as plain values."""
    return tuple((name, _plain(group[name])) for name in HYPERPARAMETERS if name in group)


def unchanged(now: Sequence[Sequence[Any]], before: Sequence[Sequence[Any]]) -> bool:
    """Whether settings of groups, as they are held, are the very same; a tensor or a list may have changed in place."""
    return len(now) == len(before) and all(
        one is other or (one == other and type(one) is type(other)) if not isinstance(one, torch.Tensor | list) else False
        for here, there in zip(now, before, strict=True)
        for one, other in zip(here, there, strict=True)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    return value.item() if isinstance(value, torch.Tensor) else value


def name_after(model: Any) -> None:
    """Call the tensors that *model* holds as *model* calls them, from now on; keeps no module alive."""
    _given.append(weakref.ref(model))


def names_of(tensors: Sequence[Any]) -> list[str]:
    """Names of *tensors* as the largest module that holds them calls them; `tensor 3` where no module does."""
    return model_of(tensors)[1]


def model_of(tensors: Sequence[Any]) -> tuple[Any | None, list[str]]:
    """
    The largest module that holds *tensors*, None where there is none, and what it calls them.

    A model that was given to `name_after` goes first. Otherwise looks once through the objects that Python's garbage
    collector tracks; it asks for their type only.
    """
    wanted = {id(tensor): position for position, tensor in enumerate(tensors)}
    best: dict[int, str] = {}
    model = None
    for given in [given for reference in _given if (given := reference()) is not None]:
        found = {wanted[id(tensor)]: name for name, tensor in given.named_parameters() if id(tensor) in wanted}
        model = given if len(found) > len(best) else model
        best = {**found, **best}
    objects = gc.get_objects() if len(best) < len(wanted) else []
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
    """
    Values of *tensors* at flat *indices*, one after another, as (type, little-endian bytes).

    None reads as zeros, a tensor of one element as that element everywhere.
    """
    taken = [_taken(tensor, index) for tensor, index in zip(tensors, indices, strict=True)]
    if not taken:
        return "f4", b""
    joined = (torch.cat(taken) if len({tensor.device for tensor in taken}) == 1 else torch.cat([t.cpu() for t in taken])).cpu()
    size = joined.element_size()
    return f"f{size}", ctypes.string_at(joined.data_ptr(), joined.numel() * size)


def _taken(tensor: Any, index: Any) -> Any:
    here = None if tensor is None else local(tensor)
    if here is None:
        return torch.zeros(len(index), device=index.device)
    if here.layout != torch.strided:
        values = sparse.values_at(here, index)
    else:
        values = torch.take(here, index) if here.dim() else here.expand(len(index))
    return values.float() if values.dtype in HALF else values


def state_of(optimizer: Any, tensors: Sequence[Any], name: str) -> list[Any]:
    """The optimizer's state *name* of each tensor, None where there is none yet."""
    state = optimizer.state
    return [state[tensor].get(name) if tensor in state else None for tensor in tensors]


def counters(optimizer: Any, tensors: Sequence[Any]) -> list[float | None]:
    """The optimizer's own step counter of each tensor, None where it keeps none."""
    return [None if count is None else float(count) for count in state_of(optimizer, tensors, "step")]


def scaling(optimizer: Any) -> tuple[float, bool]:
    """What a GradScaler asks a fused optimizer to divide gradients by inside the step, and whether to leave the step out."""
    scale, overflow = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
    return 1.0 if scale is None else float(scale), overflow is not None and bool(overflow)
