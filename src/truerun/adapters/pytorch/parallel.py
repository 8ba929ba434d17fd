"""What torch.distributed says of this process: its rank, and which ranks hold the same bits of a tensor.

Copies are known where something promises them: DistributedDataParallel for the parameters that it was given, a DTensor along
the dimensions in which it is replicated. Where nothing promises anything, all ranks may hold copies or none. Calls no
collective.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WRAPPED, UNWRAPPED, REPLICATED, UNPROMISED, ALONE = "ddp", "ddp-gone", "dtensor", "none", "sharded"
LAUNCH = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


def place() -> tuple[int, int] | None:
    """(rank, world size) once torch.distributed is initialised, None before and without it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return int(distributed.get_rank()), int(distributed.get_world_size())


def launch(variables: Mapping[str, str] = os.environ) -> str:
    """What the ranks of one launch have in common and those of a restarted one have not."""
    return "|".join(variables.get(name, "") for name in LAUNCH)[:200]


def local(tensor: Any) -> Any:
    """What this rank holds of *tensor*: the tensor itself, or its shard of a DTensor."""
    held = getattr(tensor, "_local_tensor", None) if tensor is not None else None
    return tensor if held is None else held


def comparable(gradient: Any, tensor: Any) -> bool:
    """Whether what this rank holds of *gradient* stands for the same thing as what it holds of *tensor*."""
    same = getattr(gradient, "placements", None) == getattr(tensor, "placements", None)
    return same and str(local(gradient).layout) == "torch.strided"


@dataclass(frozen=True, slots=True)
class Copies:
    """`ranks` hold the same bits, because of `why`."""

    ranks: tuple[int, ...]
    why: str


@dataclass(slots=True, eq=False)
class _Wrapper:
    """A DistributedDataParallel: where it lives, its ranks, and the communication hook it was given."""

    module: weakref.ref[Any]
    ranks: tuple[int, ...]
    hooks: list[str] = field(default_factory=list)


class Wrappers:
    """The instances of DistributedDataParallel that were made in this process, and their parameters."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Any], _Wrapper]] = {}
        self._known: list[_Wrapper] = []

    def add(self, module: Any) -> None:
        """*module*, a DistributedDataParallel, was made."""
        from torch.distributed import get_process_group_ranks

        wrapper = _Wrapper(weakref.ref(module), tuple(get_process_group_ranks(module.process_group)))
        self._known.append(wrapper)
        ignored = module.parameters_to_ignore
        for name, tensor in module.module.named_parameters():
            if name not in ignored:
                self._of[id(tensor)] = (weakref.ref(tensor), wrapper)

    def hooked(self, module: Any, hook: Any) -> None:
        """*module* got a communication hook."""
        for wrapper in self._known:
            if wrapper.module() is module:
                wrapper.hooks.append(getattr(hook, "__qualname__", type(hook).__qualname__)[:80])

    def around(self, tensor: Any) -> _Wrapper | None:
        """The newest wrapper that *tensor* was given to."""
        reference, wrapper = self._of.get(id(tensor), (None, None))
        return wrapper if reference is not None and reference() is tensor else None

    def hooks(self, tensors: Sequence[Any]) -> list[str]:
        """Names of the communication hooks that average the gradients of *tensors*."""
        found = (wrapper for tensor in tensors if (wrapper := self.around(tensor)) is not None)
        return sorted({name for wrapper in found for name in wrapper.hooks})

    def waiting(self, tensors: Sequence[Any]) -> bool:
        """Whether the last forward pass of a wrapper around *tensors* ran inside `no_sync`."""
        modules = [wrapper.module() for tensor in tensors if (wrapper := self.around(tensor)) is not None]
        return any(module is not None and not module.require_forward_param_sync for module in modules)

    def copies(self, tensor: Any, world: int) -> Copies:
        """Which ranks hold the same bits of *tensor*."""
        if hasattr(tensor, "placements") and hasattr(tensor, "device_mesh"):
            return _replicas(tensor)
        wrapper = self.around(tensor)
        if wrapper is None:
            return Copies(tuple(range(world)), UNPROMISED)
        return Copies(wrapper.ranks, WRAPPED if wrapper.module() is not None else UNWRAPPED)


def _replicas(tensor: Any) -> Copies:
    mesh, here = tensor.device_mesh.mesh, tensor.device_mesh.get_coordinate()
    if here is None:
        return Copies((), ALONE)
    at = tuple(slice(None) if kind.is_replicate() else here[i] for i, kind in enumerate(tensor.placements))
    ranks = tuple(sorted(mesh[at].flatten().tolist()))
    return Copies(ranks, REPLICATED if len(ranks) > 1 else ALONE)


def peers(tensors: Sequence[Any], copies: Sequence[Copies]) -> tuple[int, ...]:
    """The ranks that train together with this one for certain: those of its wrappers and of its tensors' meshes."""
    found = {rank for copy in copies if copy.why == WRAPPED for rank in copy.ranks}
    meshes = {id(tensor.device_mesh): tensor.device_mesh for tensor in tensors if hasattr(tensor, "device_mesh")}
    return tuple(sorted(found.union(*(mesh.mesh.flatten().tolist() for mesh in meshes.values()))))
