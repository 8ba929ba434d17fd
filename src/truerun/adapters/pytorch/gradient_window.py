"""One look at the way from a loss to the gradients of one optimizer: opened after a step, settled before the next.

Notes calls, what arrives at their outputs, and what lies in the graph; then repeats the calls and puts both sides of
<gradient, direction> = <gradient at the outputs, derivative of the calls along the direction> beside each other. Where they
differ it looks closer, halving the tensors, to say which. Whether a difference is one is judged in the agent.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from truerun.adapters.pytorch import graph, replaying
from truerun.adapters.pytorch.directions import Directions, inner, magnitude
from truerun.adapters.pytorch.loss_calls import LossCalls
from truerun.adapters.pytorch.replaying import Call, CannotReplayError

MAX_CALLS = 32
MAX_ELEMENTS = 64 * 1024 * 1024
MAX_PASSES = 24
MAX_LISTED = 64
SAME = 1e-5
CLOSER_LOOK, COARSE_LOOK, COARSE = 50.0, 3.0, 1e-4
Pass = tuple[tuple[int, ...], float, float, float]
WRAPPERS = (torch.nn.parallel.DistributedDataParallel,)


class Window:
    """The look itself. `why` says why nothing can be told, once that is known; `depth` counts calls inside of calls."""

    def __init__(self, watched: Any, tensors: Sequence[Any], *, closer: bool = True) -> None:
        self.watched = watched
        self.tensors = list(tensors)
        self.wanted = {id(tensor) for tensor in tensors if tensor.requires_grad}
        self.closer = closer
        self.why: str | None = None
        self.depth = self.backwards = 0
        self.busy = False
        self._thread = threading.get_ident()
        self._calls: list[Call] = []
        self._entering: Call | None = None
        self._handles: list[Any] = []
        self._edges: set[tuple[int, int]] = set()
        self._uses = graph.Uses()
        self._directions = Directions(self.tensors)
        self.loss = LossCalls()
        self._prints: list[float] = []
        self._in_backward = self._dirty = False
        self.edits: list[dict[str, Any]] = []
        self.passes: list[Pass] = []
        self.hooked: set[str] = set()
        self.settled = False
        self.method = "none"
        self.precision = 0.0

    # Calls of modules.

    def looks_at(self, module: Any) -> bool:
        """Whether a call of *module* counts: in this thread, not while calls are repeated, not for a mere wrapper."""
        if self.why is not None or self.busy or isinstance(module, WRAPPERS) or threading.get_ident() != self._thread:
            return False
        return torch._C._functorch.peek_interpreter_stack() is None  # noqa: SLF001 (within vmap or grad tensors are not what they seem)

    def entered(self, module: Any, args: Any, kwargs: Any) -> None:
        """An outermost call begins."""
        self._entering = None
        if not torch.is_grad_enabled() or not any(id(tensor) in self.wanted for tensor in module.parameters()):
            return
        if len(self._calls) >= MAX_CALLS:
            self.why = "it calls its modules very often in one step"
            return
        try:
            self._entering = replaying.begin(module, args, kwargs)
        except CannotReplayError as error:
            self.why = str(error)
            return
        self._entering.nodes = range(graph.next_number(), graph.next_number())

    def returned(self, result: Any, *, tell: Callable[..., None]) -> None:
        """It has returned *result*."""
        call, self._entering = self._entering, None
        if call is None:
            return
        call.nodes = range(call.nodes.start, graph.next_number())
        try:
            replaying.end(call, result)
        except CannotReplayError as error:
            self.why = str(error)
            return
        if not any(output.grad_fn is not None for output in call.outputs):
            return
        if sum(other.elements for other in self._calls) + call.elements > MAX_ELEMENTS:
            self.why = "its outputs are too large to keep a copy of"
            return
        call.flows = [None] * len(call.outputs)
        call.edges = [graph.edge_of(output) if output.grad_fn is not None else None for output in call.outputs]
        self._edges |= {edge for edge in call.edges if edge is not None}
        for position, output in enumerate(call.outputs):
            if output.grad_fn is not None:
                self.busy = True
                self._handles.append(output.register_hook(self._arriving(call, position, tell)))
                self.busy = False
        call.outputs = [output.detach() for output in call.outputs]
        self._calls.append(call)

    def hooking(self, tensor: Any, hook: Any) -> None:
        """The program puts *hook* on *tensor*; those of the network's own values are not listed anywhere else."""
        if not self.busy and len(self.hooked) < MAX_LISTED:
            self.hooked.add(graph.place_of(hook))

    def _arriving(self, call: Call, position: int, tell: Callable[..., None]) -> Callable[[Any], None]:
        def take(gradient: Any) -> None:
            if self._in_backward:
                before = call.flows[position]
                call.flows[position] = gradient.detach().clone() if before is None else before + gradient.detach()

        return lambda gradient: tell(take, (gradient,), {})

    # Backward passes.

    def before_backward(self, roots: Sequence[Any]) -> None:
        """A backward pass begins at *roots*."""
        self.loss.backward(roots)
        if self.why is not None:
            return
        if self.settled:
            self.why = "a backward pass came after clipping"
            return
        if self._cleared():
            self._prints = []
            self._uses, self._dirty = graph.Uses(), False
            for call in self._calls:
                call.flows = [None] * len(call.outputs)
        elif not self.backwards:
            self._dirty = True
        elif self._prints:
            self._compare("between")
        self.backwards += 1
        found = graph.walk(roots, [call.nodes for call in self._calls], self._edges)
        self._uses.add(found)
        self._in_backward = True

    def after_backward(self) -> None:
        """It has run."""
        self._in_backward = False
        if self.why is None:
            self._prints = self._projections()

    def _cleared(self) -> bool:
        gradients = [tensor.grad for tensor in self.tensors if tensor.grad is not None]
        return not gradients or not bool(torch.stack([gradient.count_nonzero() for gradient in gradients]).any())

    def _projections(self) -> list[float]:
        """What each tensor's gradient comes to along the secret noise: any change of it shows."""
        parts = [
            self._directions.projection(position, tensor.grad)
            if tensor.grad is not None and tensor.grad.layout == torch.strided
            else torch.zeros((), device=tensor.device)
            for position, tensor in enumerate(self.tensors)
        ]
        alike = len({(part.device, part.dtype) for part in parts}) == 1
        return [float(part) for part in (torch.stack(parts).tolist() if alike else parts)]

    def _compare(self, what: str) -> None:
        now = self._projections()
        pairs = enumerate(zip(self._prints, now, strict=True))
        # An equal gradient in another place of the memory is added up in another order.
        changed = [i for i, (before, after) in pairs if not math.isclose(before, after, rel_tol=SAME)]
        if changed:
            listed = [[i, self._prints[i], now[i]] for i in changed[:MAX_LISTED]]
            self.edits.append({"what": what, "count": len(changed), "listed": listed})
        self._prints = now

    # Before the step.

    def edited(self, what: str) -> None:
        """A function of torch that may change gradients, *what*, has run."""
        if self.why is None and self._prints:
            self._compare(what)

    def arrived(self) -> None:
        """The step is about to begin: nothing more may have changed."""
        if self.why is None and self._prints:
            self._compare("between")

    def settle(self) -> None:
        """Repeat the calls; done once, before anything may legally change the gradients."""
        if self.settled:
            return
        self.settled = True
        if self.why is None and not self.backwards:
            self.why = "no backward pass was seen"
        if self.why is None and self._dirty:
            self.why = "gradients of earlier steps were still there"
        if self.why is not None:
            return
        self._compare("between")
        if self.edits:  # what was edited afterwards says nothing about the backward pass
            return
        self.busy = True
        try:
            self._look()
        except CannotReplayError as error:
            self.why = str(error)
        finally:
            self.busy = False

    def _look(self) -> None:
        for call in self._calls:
            # What a call itself uses of what it returns arrives there too, and counts already.
            call.flows = [flow if edge in self._uses.entered else None for flow, edge in zip(call.flows, call.edges, strict=True)]
        calls = [call for call in self._calls if any(flow is not None for flow in call.flows)]
        if not self._uses.complete:
            raise CannotReplayError("its graph is too large to walk")
        if self._uses.opened or self._uses.entered & self._uses.within:
            raise CannotReplayError("values from inside a module are used beside what it returns")
        chosen = tuple(i for i, tensor in enumerate(self.tensors) if self._usable(tensor))
        if not calls or not chosen:
            raise CannotReplayError("its parameters are used outside of modules")
        self.precision = max(_precision(call) for call in calls)
        if not self._differs(self._measure(calls, chosen, self._directions)):
            return
        again = Directions(self.tensors)
        second = self._measure(calls, chosen, again)
        if self.closer and self._differs(second):
            self._halve(calls, second, again)

    def _halve(self, calls: list[Call], whole: Pass, directions: Directions) -> None:
        """Find the tensors that differ, unless all of them do so alike."""
        waiting = [whole]
        while waiting and len(self.passes) < MAX_PASSES:
            positions, observed, expected, scale = waiting.pop()
            if len(positions) < 2:
                continue
            left = self._measure(calls, positions[: len(positions) // 2], directions)
            # Derivatives are linear: the other half is what is left.
            rest = (positions[len(positions) // 2 :], observed - left[1], expected - left[2], scale)
            self.passes.append(rest)
            wrong = [half for half in (left, rest) if self._differs(half)]
            if len(positions) == len(whole[0]) and len(wrong) == 2 and _alike(left, rest):
                return
            waiting += wrong

    def _differs(self, seen: Pass) -> bool:
        _, observed, expected, scale = seen
        factor = CLOSER_LOOK if self.precision < COARSE else COARSE_LOOK
        return not abs(observed - expected) <= factor * self.precision * scale

    def _usable(self, tensor: Any) -> bool:
        gradient = tensor.grad
        dense = gradient is None or gradient.layout == torch.strided
        return id(tensor) in self.wanted and id(tensor) not in self._uses.outside and dense and tensor.is_floating_point()

    def _measure(self, calls: list[Call], positions: tuple[int, ...], directions: Directions) -> Pass:
        """One pass: (tensors, what their gradients come to, what the calls come to, the scale of rounding errors)."""
        moving = {}
        observed = expected = scale = 0.0
        for position in positions:
            tensor = self.tensors[position]
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach()
            moving[id(tensor)] = (tensor, directions.along(position, tensor.detach(), gradient))
            observed += inner(gradient, moving[id(tensor)][1])
        for call in calls:
            repeated = self._repeat(call, moving)
            self.precision = max(self.precision, call.precision)
            for output, flow, (here, moved) in zip(call.outputs, call.flows, repeated, strict=True):
                _same(output, here, self.precision)
                if flow is not None and moved is not None:
                    expected += inner(flow, moved)
                    scale += magnitude(flow, moved)
                if flow is not None:
                    scale += magnitude(flow, output)
        found = (positions, observed, expected, scale)
        self.passes.append(found)
        return found

    def _repeat(self, call: Call, moving: dict[int, Any]) -> list[tuple[Any, Any]]:
        held = {id(tensor) for tensor in call.module.parameters()}
        mine = {key: value for key, value in moving.items() if key in held}
        try:
            if self.method != "differences" and not self._uses.functions.get(self._calls.index(call)):
                self.method = "forward"
                return replaying.along(call, mine)
            self.method = "differences"
            return replaying.differences(call, mine)
        except NotImplementedError:  # an operation without forward mode
            self.method = "differences"
            return self._by_differences(call, mine)
        except CannotReplayError:
            raise
        except Exception as error:  # the program's own code, in a situation that it was not written for
            raise CannotReplayError(f"repeating a call failed: {type(error).__name__}: {error}"[:300]) from error

    def _by_differences(self, call: Call, mine: dict[int, Any]) -> list[tuple[Any, Any]]:
        try:
            return replaying.differences(call, mine)
        except CannotReplayError:
            raise
        except Exception as error:  # as above
            raise CannotReplayError(f"repeating a call failed: {type(error).__name__}: {error}"[:300]) from error

    # What travels.

    def report(self) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
        """The frame: header and buffers."""
        gradients = [tensor.grad for tensor in self.tensors]
        functions = {graph.place_of(graph.backward_of(kind)) for kinds in self._uses.functions.values() for kind in kinds}
        header = {
            "why": self.why,
            "method": self.method,
            "precision": self.precision,
            "passes": [[list(positions), *numbers] for positions, *numbers in self.passes[:MAX_PASSES]],
            "edits": self.edits,
            "functions": sorted(functions)[:8],
            "hooks": sorted({*self.hooked, *_hooks_of([*self.tensors, *(call.module for call in self._calls)])})[:8],
            "backwards": self.backwards,
        }
        norms = [0.0 if g is None or g.layout != torch.strided else torch.linalg.vector_norm(g.detach()) for g in gradients]
        loss, numbers = self.loss.report([output for call in self._calls for output in call.outputs])
        return {**header, "loss": loss}, {"norms": _numbers(norms), **numbers}

    def forget(self) -> None:
        """Let go of everything."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._calls, self._entering = [], [], None


def _alike(one: Pass, other: Pass) -> bool:
    """Whether two passes are off by the same factor."""
    return bool(one[2] and other[2]) and abs(one[1] / one[2] - other[1] / other[2]) < 0.02 * abs(one[1] / one[2])


def _same(output: Any, here: Any, precision: float) -> None:
    if not output.is_floating_point():
        return
    gap = (output - here).abs().max() if output.numel() else torch.zeros(())
    if not float(gap) <= 1000 * precision * float(output.abs().max() if output.numel() else 0.0):
        raise CannotReplayError("a repeated call does not return the same")


def _precision(call: Call) -> float:
    """The relative rounding error of the coarsest kind of number that a call computes with."""
    kinds = {output.dtype for output in call.outputs if output.is_floating_point()}
    kinds |= {tensor.dtype for tensor in call.module.parameters() if tensor.is_floating_point()}
    kinds |= {dtype for _, enabled, dtype in call.autocast if enabled}
    short = any(output.is_cuda for output in call.outputs) and (
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    )
    return float(max([torch.finfo(kind).eps for kind in kinds] + ([2.0**-10] if short else [])))


def _hooks_of(things: Sequence[Any]) -> list[str]:
    """The program's hooks on tensors and modules that a backward pass runs, as `name (file:line)`."""
    parts = [part for thing in things for part in (thing.modules() if isinstance(thing, torch.nn.Module) else (thing,))]
    names = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")
    found = {
        graph.place_of(hook)
        for part in parts
        for name in names
        for hook in (getattr(part, name, None) or {}).values()
        if not str(getattr(hook, "__module__", "")).startswith("torch.")
    }
    return sorted(found)


def _numbers(values: Sequence[Any]) -> tuple[str, bytes]:
    joined = torch.tensor([float(value) for value in values], dtype=torch.float32)
    return "f4", ctypes.string_at(joined.data_ptr(), joined.numel() * 4)
