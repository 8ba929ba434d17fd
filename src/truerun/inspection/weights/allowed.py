"""What a checkpoint's pickle may name, by exact module and name; everything else is refused.

Short on purpose: tensors, storages, types and plain containers. Whole modules, argparse namespaces, NumPy object loaders
and functions that call a function they are given (`torch._tensor._rebuild_from_type_v2`) are not on it: a state dict does
not need them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from truerun.inspection.weights.opcodes import Bulk

_PLAIN_DTYPE = re.compile(r"[<>|=]?[biufcSU?mM][0-9]{0,4}")
_STORAGES = "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat QUInt8 QInt8 QInt32"
_TYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128 "
    "double float half long int short quint8 qint8 qint32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)
ITEM_BYTES: dict[str, int] = {
    f"{name}Storage": size
    for names, size in (
        ("ComplexDouble", 16),
        ("Double Long ComplexFloat", 8),
        ("Float Int QInt32", 4),
        ("Half BFloat16 Short", 2),
        ("Char Byte Bool QUInt8 QInt8 Untyped", 1),
    )
    for name in names.split()
}
STORAGES: frozenset[tuple[str, str]] = frozenset(
    {("torch", f"{name}Storage") for name in _STORAGES.split()}
    | {("torch.storage", f"{name}Storage") for name in ("Untyped", "Typed")}
)
VALUES: frozenset[tuple[str, str]] = (
    frozenset({("torch", name) for name in _TYPES.split()})
    | STORAGES
    | frozenset({("numpy", "ndarray"), ("builtins", "dict"), ("builtins", "list"), ("builtins", "set"), ("builtins", "int")})
    | frozenset({("builtins", "float"), ("__builtin__", "dict"), ("__builtin__", "list"), ("__builtin__", "set")})
)


def _encodes_latin(arguments: tuple[object, ...]) -> bool:
    """Protocol 2 writes bytes as text: `_codecs.encode(text, "latin1")`."""
    return len(arguments) == 2 and isinstance(arguments[0], str | Bulk) and arguments[1] in ("latin1", "latin-1")


def _has_no_hooks(position: int) -> Callable[[tuple[object, ...]], bool]:
    """A tensor's backward hooks run in training: they must be absent or an ordered dict that is still empty."""

    def check(arguments: tuple[object, ...]) -> bool:
        hooks = arguments[position] if len(arguments) > position else None
        return hooks is None or getattr(hooks, "is_empty_mapping", False)

    return check


def _one_collection(arguments: tuple[object, ...]) -> bool:
    return len(arguments) <= 1 and not any(isinstance(argument, int | str | Bulk) for argument in arguments)


def _nothing(arguments: tuple[object, ...]) -> bool:
    """Protocol 0 writes empty bytes as a call without arguments; with one, the call could allocate anything."""
    return not arguments


def _anything(_: tuple[object, ...]) -> bool:
    return True


def _plain_arguments(arguments: tuple[object, ...]) -> bool:
    return all(argument is None or isinstance(argument, int | float | str) for argument in arguments)


def _plain_factory(arguments: tuple[object, ...]) -> bool:
    return not arguments or getattr(arguments[0], "module", "") in ("builtins", "__builtin__")


def _plain_dtype(arguments: tuple[object, ...]) -> bool:
    """Numbers, text and times; never objects, which are pickles of their own."""
    return (
        bool(arguments)
        and isinstance(arguments[0], str)
        and _PLAIN_DTYPE.fullmatch(arguments[0]) is not None
        and _plain_arguments(arguments)
    )


def _empty_array(arguments: tuple[object, ...]) -> bool:
    """NumPy rebuilds an array empty and sets its state; another shape would allocate what the file does not hold."""
    made = arguments[0] if arguments else None
    return len(arguments) == 3 and str(made) == "numpy.ndarray" and arguments[1] == (0,)


# A callable and what its arguments must look like.
CALLABLES: dict[tuple[str, str], Callable[[tuple[object, ...]], bool]] = {
    ("torch._utils", "_rebuild_tensor"): _anything,
    ("torch._utils", "_rebuild_tensor_v2"): _has_no_hooks(5),
    ("torch._utils", "_rebuild_tensor_v3"): _has_no_hooks(5),
    ("torch._utils", "_rebuild_parameter"): _has_no_hooks(2),
    ("torch._utils", "_rebuild_qtensor"): _has_no_hooks(6),
    ("torch._utils", "_rebuild_sparse_tensor"): _anything,
    ("torch.serialization", "_get_layout"): _plain_arguments,
    ("torch", "Size"): _anything,
    ("torch", "device"): _plain_arguments,
    ("collections", "OrderedDict"): _one_collection,
    ("collections", "Counter"): _one_collection,
    ("collections", "defaultdict"): _plain_factory,
    ("builtins", "bytes"): _nothing,
    ("__builtin__", "bytes"): _nothing,
    ("builtins", "set"): _one_collection,
    ("builtins", "frozenset"): _one_collection,
    ("builtins", "complex"): _plain_arguments,
    ("builtins", "slice"): _plain_arguments,
    ("__builtin__", "set"): _one_collection,
    ("__builtin__", "frozenset"): _one_collection,
    ("__builtin__", "complex"): _plain_arguments,
    ("_codecs", "encode"): _encodes_latin,
    ("numpy", "dtype"): _plain_dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _anything for core in ("core", "_core")},
}
CALLABLES.update({(f"numpy.{core}.numeric", "_frombuffer"): _anything for core in ("core", "_core")})
TENSOR_MAKERS = frozenset(pair for pair in CALLABLES if pair[0] == "torch._utils")
BUILDABLE = frozenset(
    {
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    }
)


def allows_state(module: str, name: str, state: object) -> bool:
    """Whether BUILD may give *state* to what this callable made."""
    if (module, name) == ("numpy", "dtype"):
        # (version, byte order, no sub-array, no names, no fields, size, alignment, no flags): numpy/core descriptor.c
        return isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None) and state[7] == 0
    return (module, name) in BUILDABLE


def allows(module: str, name: str) -> bool:
    """Whether a checkpoint may name this global at all."""
    return (module, name) in VALUES or (module, name) in CALLABLES
