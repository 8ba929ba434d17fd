"""Computes once more what a module's call computed, with other numbers for its parameters, and leaves no trace.

Two uses: the derivative of a call along a direction by forward-mode differentiation (exact; Siskind and Pearlmutter,
arXiv:1611.03423 for the notion; `torch.autograd.forward_ad` for the means), and by central differences in double precision
where an operation has no forward mode. Neither uses a formula that the backward pass uses.

Parameters are exchanged for others while the call is repeated, never written to. Attributes of the modules, buffers and
random number generators are put back as they were. Hooks of the program are left out. A forward that visibly acts on the
outside (prints, writes, advances an iterator, sets a global, changes a container that is not the module's) is not repeated:
see `obstacle`.
"""

from __future__ import annotations

import collections
import contextlib
import dis
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import _VF
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

OUTSIDE = frozenset({"print", "open", "write", "input", "send", "put", "system", "exec", "eval", "add_scalar", "add_histogram"})
TRACKERS = frozenset({"wandb", "mlflow", "comet_ml", "neptune"})
CHANGING = frozenset(name for kind in (list, dict, set, collections.deque) for name in dir(kind) if not name.startswith("_")) - {
    *("copy", "count", "index", "keys", "values", "items", "get", "union", "difference", "intersection"),
    *("issubset", "issuperset", "isdisjoint", "symmetric_difference", "fromkeys"),
}
CONTAINERS = (list, dict, set, collections.deque)
MAX_FUNCTIONS = 500
PLAIN = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)
MAX_BUFFER_BYTES = 64 * 1024 * 1024
RELATIVE_STEP = 1e-6
SHORT = frozenset({torch.bfloat16, torch.float16})
# Straight-through estimators of torch's own: quantisation-aware training.
OWN_GRADIENTS = frozenset(
    name
    for kind in ("per_tensor", "per_channel")
    for name in (f"fake_quantize_{kind}_affine", f"_fake_quantize_learnable_{kind}_affine")
) | {"fused_moving_avg_obs_fake_quant"}
REQUIRES_GRAD = torch.Tensor.requires_grad.__get__
# What every module has gets other containers while a call is repeated, so those need no copy.
EXCHANGED = frozenset(vars(torch.nn.Module())) - {"_modules"}
_modules: Any = sys.modules["torch.nn.modules.module"]
_hook_tables = tuple(name for name in vars(_modules) if name.startswith("_global_") and isinstance(vars(_modules)[name], dict))


class CannotReplayError(Exception):
    """The call cannot be repeated faithfully; the text says why."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of *module* as it began: its arguments, buffers and the state of the generators, and what came of it."""

    module: Any
    args: Any
    kwargs: Any
    buffers: Mapping[int, Any]
    generators: Any
    autocast: tuple[tuple[str, bool, Any], ...]
    nodes: range = range(0)
    outputs: list[Any] = field(default_factory=list)
    flows: list[Any] = field(default_factory=list)
    edges: list[tuple[int, int] | None] = field(default_factory=list)
    precision: float = 0.0

    @property
    def elements(self) -> int:
        """How many numbers it put out."""
        return sum(output.numel() for output in self.outputs)


def begin(module: Any, args: Any, kwargs: Any) -> Call:
    """Note how a call begins; raises CannotReplayError where a repetition would show."""
    why = obstacle(module)
    buffers = list(module.buffers())
    if why is None and sum(buffer.numel() * buffer.element_size() for buffer in buffers) > MAX_BUFFER_BYTES:
        why = "its buffers are too large to keep a copy of"
    if why is not None:
        raise CannotReplayError(why)
    devices = ("cpu", "cuda") if torch.cuda.is_initialized() else ("cpu",)
    autocast = tuple((device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices)
    copies = {id(buffer): buffer.detach().clone() for buffer in buffers}
    return Call(module, args, kwargs, copies, _generators(), autocast)


def end(call: Call, result: Any) -> None:
    """Note what the call returned; raises CannotReplayError for a container that cannot be looked into."""
    leaves = pytree.tree_leaves(result)
    odd = [leaf for leaf in leaves if not isinstance(leaf, (torch.Tensor, *PLAIN))]
    if odd:
        raise CannotReplayError(f"it returns a {type(odd[0]).__name__}")
    call.outputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


_known: dict[type, str | None] = {}


def obstacle(module: Any) -> str | None:
    """Why a call of *module* cannot be repeated without a trace, in words; None when nothing speaks against it."""
    for part in module.modules():
        kind = type(part)
        if kind not in _known:
            _known[kind] = _obstacle_of(kind)
        if _known[kind] is not None:
            return _known[kind]
        if any(isinstance(value, torch.Generator | random.Random) for value in vars(part).values()):
            return f"{kind.__name__} keeps a random number generator of its own"
    return None


def _obstacle_of(kind: type) -> str | None:
    if kind.__module__.startswith("torch."):
        odd = ("torch.jit", "torch._dynamo", "torch.nn.parallel", "torch.distributed")
        return f"{kind.__name__} is compiled or spread over processes" if kind.__module__.startswith(odd) else None
    forward = getattr(kind, "forward", None)
    waiting = [forward] if isinstance(forward, types.FunctionType) else []
    seen: set[types.FunctionType] = set()
    while waiting and len(seen) < MAX_FUNCTIONS:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        outer = _outer(function)
        for code in _codes(function.__code__):
            acts = _acts(code, outer, set(function.__code__.co_freevars))
            if acts:
                return f"{code.co_filename}:{code.co_firstlineno} ({code.co_qualname}) acts on the outside: {', '.join(acts)}"
            called = [vars(kind).get(name, outer.get(name)) for name in code.co_names]
            waiting += [
                other
                for other in called
                if isinstance(other, types.FunctionType) and not str(other.__module__).startswith(("torch.", "numpy."))
            ]
    return None


def _outer(function: types.FunctionType) -> Mapping[str, Any]:
    """What the names that *function* does not define itself stand for."""
    held: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            held[name] = cell.cell_contents
    return collections.ChainMap(held, function.__globals__)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _acts(code: types.CodeType, outer: Mapping[str, Any], free: set[str]) -> list[str]:
    """What in *code* would show outside if it ran once more: names of what it calls or changes."""
    names = set(code.co_names)
    acts = sorted(names & OUTSIDE) + (["next"] if "next" in names and not names & {"parameters", "buffers"} else [])
    acts += sorted(name for name in names & TRACKERS if isinstance(outer.get(name), types.ModuleType))
    shared = sorted(name for name in names | free if isinstance(outer.get(name), CONTAINERS))
    changes = bool(names & CHANGING)
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_GLOBAL" or (instruction.opname == "STORE_DEREF" and instruction.argval in free):
            acts.append(str(instruction.argval))
        changes = changes or instruction.opname in ("STORE_SUBSCR", "DELETE_SUBSCR")
    return acts + (shared if changes else [])


def along(call: Call, directions: Mapping[int, tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """
    (output, its derivative) for each output of *call*, with parameters moving as *directions* {id: (parameter, u)} say.

    The derivative is None where there is none. Raises NotImplementedError for an operation without forward mode.
    """
    with forward_ad.dual_level() as level:
        mode = _Moving(set(directions))
        moving = {key: _dual(parameter.detach(), u, level) for key, (parameter, u) in directions.items()}
        found = _run(call, moving, lambda tensor: tensor, mode)
        call.precision = max(call.precision, mode.precision)
        return [_unpacked(tensor) for tensor in found]


def _dual(value: Any, moving: Any, level: int) -> Any:
    # torch's own make_dual first loads a second of Python that only derivatives of derivatives need.
    return _VF._make_dual(value, moving, level=level)  # noqa: SLF001


def _unpacked(tensor: Any) -> tuple[Any, Any]:
    return tuple(_VF._unpack_dual(tensor, level=0))  # noqa: SLF001


def differences(call: Call, directions: Mapping[int, tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Like `along`, by central differences in double precision: three repetitions."""
    sides = []
    for step in (0.0, RELATIVE_STEP, -RELATIVE_STEP):
        moved = {
            key: torch.add(parameter.detach().double(), u.double(), alpha=step).requires_grad_()
            for key, (parameter, u) in directions.items()
        }
        sides.append([tensor.detach() for tensor in _run(call, moved, _double, _Stepping(set(directions)))])
    return [(here, (up - down) / (2 * RELATIVE_STEP)) for here, up, down in zip(*sides, strict=True)]


def _double(tensor: Any) -> Any:
    return tensor.double() if tensor.dtype in (torch.float32, torch.float64) else tensor


def _run(call: Call, moving: Mapping[int, Any], convert: Callable[[Any], Any], mode: _Looking) -> list[Any]:
    args, kwargs = pytree.tree_map_only(torch.Tensor, lambda tensor: convert(tensor.detach()), (call.args, call.kwargs))
    kernels = torch.nn.attention
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for device, enabled, dtype in call.autocast:
            stack.enter_context(torch.autocast(device, dtype=dtype, enabled=enabled and convert is not _double))
        stack.enter_context(kernels.sdpa_kernel(kernels.SDPBackend.MATH))
        if any(isinstance(part, torch.nn.RNNBase) for part in call.module.modules()):
            # Not `torch.backends.mkldnn.flags`, which warns of other settings.
            stack.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())  # noqa: SLF001
            torch._C._set_mkldnn_enabled(False)  # noqa: SLF001
        stack.enter_context(_same_generators(call.generators))
        stack.enter_context(_exchanged(call, moving, convert))
        stack.enter_context(mode)
        result = call.module(*args, **kwargs)
    found = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in call.outputs]:
        raise CannotReplayError("it does not return the same twice")
    return found


class _Looking(TorchFunctionMode):  # type: ignore[misc]
    """Sees every function of torch called in a repetition, and ends one that would not be faithful."""

    def __init__(self, originals: set[int]) -> None:
        super().__init__()
        self.originals = originals
        self.precision = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(id(tensor) in self.originals for tensor in _tensors((*args, *(kwargs or {}).values()))):
            raise CannotReplayError("a parameter is used by a path that does not lead through its module")
        if getattr(func, "__name__", "") in OWN_GRADIENTS:
            raise CannotReplayError(f"the gradient of {func.__name__} is by design not its derivative")
        result = self.call(func, args, kwargs or {})
        padded = _padding(func, args, kwargs or {})
        if padded is not None and isinstance(result, torch.Tensor):
            result = self.constant(result, padded)
        if isinstance(result, torch.Tensor) and result.dtype in SHORT:
            self.precision = max(self.precision, torch.finfo(result.dtype).eps)
        return result

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    def constant(self, result: Any, where: Any) -> Any:
        """*result* with the rows *where* taken for constants, as the backward pass of an embedding takes its padding."""
        return torch.where(where.unsqueeze(-1), result.detach(), result)


class _Moving(_Looking):
    """Keeps derivatives out of what happens under `no_grad`, and lets hooks be set that need a backward pass."""

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("register_hook", "retain_grad", "register_post_accumulate_grad_hook"):
            return types.SimpleNamespace(remove=lambda: None)
        if func is REQUIRES_GRAD:
            return func(*args) or _moves(args[0])
        if not torch.is_grad_enabled() and any(_moves(tensor) for tensor in _tensors((*args, *kwargs.values()))):
            if name.endswith("_") and not name.endswith("__"):
                raise CannotReplayError("it keeps values that depend on its parameters")
            args, kwargs = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach(), (args, kwargs))
        return func(*args, **kwargs)


class _Stepping(_Looking):
    """For differences: what depends on parameters under `no_grad` counts as a constant, and here it would not be one."""

    inside = 0

    def constant(self, result: Any, where: Any) -> Any:
        """What is stepped along cannot be kept constant."""
        if bool(where.any()):
            raise CannotReplayError("an embedding has padding where differences are needed")
        return result

    def __enter__(self) -> Any:
        self._apply = apply = vars(torch.autograd.Function)["apply"]

        def counting(kind: Any, *args: Any, **kwargs: Any) -> Any:
            self.inside += 1
            try:
                return apply.__get__(None, kind)(*args, **kwargs)
            finally:
                self.inside -= 1

        torch.autograd.Function.apply = classmethod(counting)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        torch.autograd.Function.apply = self._apply
        super().__exit__(*error)

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not self.inside and not torch.is_grad_enabled() and not getattr(func, "__name__", "").startswith("__"):
            with torch._C.DisableTorchFunction():  # noqa: SLF001 (asking must not be seen)
                if any(tensor.requires_grad for tensor in _tensors((*args, *kwargs.values()))):
                    raise CannotReplayError("it works with constants that depend on its parameters")
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.dtype in SHORT:
            raise CannotReplayError("it computes in half precision where differences are needed")
        return result


def _padding(func: Any, args: Any, kwargs: Any) -> Any:
    """Which indices of an embedding are its padding, whose row gets no gradient; None for other functions, and without one."""
    names = _EMBEDDINGS.get(func)
    if names is None:
        return None
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("scale_grad_by_freq"):
        raise CannotReplayError("an embedding scales its gradient by how often a row is used")
    # The padding of an embedding bag is left out of its sums, forward and backward alike.
    padding = given.get("padding_idx") if func is not torch.nn.functional.embedding_bag else None
    if padding is None or (padding < 0 and func is torch.embedding):
        return None
    return given["input"] == (padding if padding >= 0 else padding + given["weight"].size(0))


_EMBEDDINGS = {
    torch.nn.functional.embedding: ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
    torch.embedding: ("weight", "input", "padding_idx", "scale_grad_by_freq", "sparse"),
    torch.nn.functional.embedding_bag: ("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq"),
}


def _moves(tensor: Any) -> bool:
    return tensor.is_floating_point() and _unpacked(tensor)[1] is not None


def _tensors(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif type(value) in (list, tuple):
            yield from _tensors(value)


@contextlib.contextmanager
def _exchanged(call: Call, moving: Mapping[int, Any], convert: Callable[[Any], Any]) -> Iterator[None]:
    """The module's tree with other parameters, buffers as they were when the call began, and without the program's hooks."""
    parts = list(call.module.modules())
    saved = [(vars(part), dict(vars(part)), _contents(vars(part))) for part in parts]
    tables = [(getattr(_modules, name), dict(getattr(_modules, name))) for name in _hook_tables]
    other: dict[int, Any] = {}
    for tensor in (*call.module.parameters(), *call.module.buffers()):
        here = call.buffers.get(id(tensor), tensor)
        other[id(tensor)] = (
            moving[id(tensor)]
            if id(tensor) in moving
            else convert(here.detach().clone() if here is not tensor else here.detach())
        )
    try:
        for table, _ in tables:
            table.clear()
        for attributes, _, _ in saved:
            _exchange(attributes, other)
        yield
    finally:
        for attributes, before, contents in saved:
            for value, held in contents:
                _put_back(value, held)
            if attributes.keys() != before.keys() or any(attributes[key] is not value for key, value in before.items()):
                attributes.clear()
                attributes.update(before)
        for table, held in tables:
            table.update(held)


def _exchange(attributes: dict[str, Any], other: Mapping[int, Any]) -> None:
    for name, value in list(attributes.items()):
        if name in ("_forward_hooks", "_forward_pre_hooks"):
            kept = {key: hook for key, hook in value.items() if str(getattr(hook, "__module__", "")).startswith("torch.")}
            attributes[name] = collections.OrderedDict(kept)
        elif name in ("_backward_hooks", "_backward_pre_hooks"):
            attributes[name] = collections.OrderedDict()
        elif isinstance(value, torch.Tensor):
            attributes[name] = other.get(id(value), value)
        elif type(value) in (list, tuple):
            attributes[name] = type(value)(other.get(id(item), item) for item in value)
        elif isinstance(value, dict) and name in EXCHANGED:
            attributes[name] = {key: other.get(id(item), item) for key, item in value.items()}
        elif type(value) in (dict, collections.OrderedDict) and name != "_modules":
            attributes[name] = type(value)((key, other.get(id(item), item)) for key, item in value.items())


def _contents(attributes: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    kinds = (list, dict, set, collections.deque)
    own = (value for name, value in attributes.items() if name not in EXCHANGED)
    return [(value, value.copy()) for value in own if isinstance(value, kinds)]


def _put_back(value: Any, held: Any) -> None:
    """Give a container its items back, unless they are still the same."""
    same = len(value) == len(held) and all(a is b for a, b in zip(value, held, strict=True))
    if same and (not isinstance(value, dict) or all(value[key] is held[key] for key in held)):
        return
    value.clear()
    (value.extend if isinstance(value, list | collections.deque) else value.update)(held)


def _generators() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy.random")
    return (
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
        random.getstate(),
        numpy.get_state() if numpy is not None else None,
    )


@contextlib.contextmanager
def _same_generators(then: tuple[Any, ...]) -> Iterator[None]:
    now = _generators()
    _set_generators(then)
    try:
        yield
    finally:
        _set_generators(now)


def _set_generators(state: tuple[Any, ...]) -> None:
    cpu, cuda, python, numpy = state
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    random.setstate(python)
    if numpy is not None:
        sys.modules["numpy.random"].set_state(numpy)
