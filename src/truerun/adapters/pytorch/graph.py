"""Walks the graph that a backward pass is about to follow: where parameters enter it, and what in it is not torch's own.

Nodes of the graph are numbered in the order in which they were made, so those made during a module's call are known by their
numbers. Cannot list hooks that were registered on intermediate nodes; torch does not show them. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

MAX_NODES = 50_000


@dataclass(slots=True, eq=False)
class Uses:
    """
    What one walk found.

    `entered` are the edges of outputs that something outside of their call uses, `within` those that something inside uses.
    `outside` are ids of parameters that something outside of the calls uses; `opened` are positions of calls from whose inside
    a value is used that they did not return; `functions` the autograd functions written in Python, by call position (-1:
    outside of all calls).
    """

    entered: set[tuple[int, int]] = field(default_factory=set)
    within: set[tuple[int, int]] = field(default_factory=set)
    outside: set[int] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)
    functions: dict[int, set[type]] = field(default_factory=dict)
    complete: bool = True

    def add(self, other: Uses) -> None:
        """Take in what another walk found."""
        for mine, theirs in ((getattr(self, name), getattr(other, name)) for name in ("entered", "within", "outside", "opened")):
            mine.update(theirs)
        for where, kinds in other.functions.items():
            self.functions.setdefault(where, set()).update(kinds)
        self.complete &= other.complete


def next_number() -> int:
    """The number that the next node of the graph will get in this thread."""
    return int(torch.autograd._get_sequence_nr())  # noqa: SLF001 (no public name for it)


def edge_of(tensor: Any) -> tuple[int, int]:
    """The number of the node that made *tensor*, and which of its results it is. Keeps nothing alive."""
    return tensor.grad_fn._sequence_nr(), tensor.output_nr  # noqa: SLF001 (no public name for it)


def walk(roots: Sequence[Any], calls: Sequence[range], edges: Collection[tuple[int, int]]) -> Uses:
    """
    Follow the graph back from *roots* (tensors).

    *calls* are the numbers of the nodes that each call made; *edges* are those of what the calls returned.
    """
    found = Uses()
    waiting = [(tensor.grad_fn, tensor.output_nr, -1) for tensor in roots if tensor.grad_fn is not None]
    seen: set[Any] = set()
    while waiting:
        node, position, above = waiting.pop()
        made = node._sequence_nr()  # noqa: SLF001 (no public name for it)
        here = next((call for call, numbers in enumerate(calls) if made in numbers), -1)
        if here not in (-1, above) and (made, position) not in edges:
            found.opened.add(here)
        elif (made, position) in edges:
            (found.within if here == above else found.entered).add((made, position))
        if node in seen:
            continue
        seen.add(node)
        if len(seen) > MAX_NODES:
            found.complete = False
            return found
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.functions.setdefault(here, set()).add(type(node))
        for below, number in node.next_functions:
            if below is None:
                continue
            if type(below).__name__ != "AccumulateGrad":
                waiting.append((below, number, here))
            elif here == -1:
                found.outside.add(id(below.variable))
    return found


def place_of(function: Any) -> str:
    """`name (file:line)` of a Python function, `name` of anything else."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name


def backward_of(kind: type) -> Any:
    """The `backward` that a Python autograd function's node class *kind* was written with."""
    forward_class = getattr(kind, "_forward_cls", kind)
    return getattr(forward_class, "backward", None) or forward_class
