"""Sees which of torch's loss functions are called while a window is open, on what, and what backward is then called on.

Captures inputs and targets of small calls, so that the agent can compute the loss itself. Cannot see a loss that is written out by
hand, or a loss function that the program bound to a name of its own before the window opened.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from truerun.adapters.pytorch import graph, wrapping

FUNCTIONS = (
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
)
SIGNATURES = {name: inspect.signature(getattr(functional, name)) for name in FUNCTIONS}
OPTIONS = ("reduction", "label_smoothing", "ignore_index", "beta", "delta", "log_target")
WEIGHTS = ("weight", "pos_weight")
MAX_NUMBERS = 256 * 1024
MAX_CALLS = 8


class LossCalls:
    """What was called since the window opened; `watch` begins to look and returns what ends it."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._fresh: list[tuple[dict[str, Any], Any, Any]] = []
        self._last: list[tuple[dict[str, Any], Any, Any]] = []
        self._scaled: dict[tuple[int, int], float] = {}
        self._inside = 0

    def watch(self, tell: Callable[..., None], busy: Callable[[], bool]) -> list[Callable[[], None]]:
        """Put a look around each function; *busy* says that a call is one of our own."""

        def make(name: str) -> Callable[[Any], Any]:
            def wrap(original: Any) -> Any:
                def look(*args: Any, **kwargs: Any) -> Any:
                    if torch.compiler.is_compiling() or busy() or self._inside:
                        return original(*args, **kwargs)
                    self._inside += 1
                    try:
                        result = original(*args, **kwargs)
                    finally:
                        self._inside -= 1
                    tell(self._called, (name, result, args, kwargs), {})
                    return result

                return look

            return wrap

        undo = [wrapping.replace(functional, name, make(name)) for name in FUNCTIONS]
        return [*undo, wrapping.replace(torch.amp.GradScaler, "scale", lambda original: self._scaling(original, tell))]

    def _scaling(self, original: Any, tell: Callable[..., None]) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            result = original(scaler, outputs)
            tell(self._was_scaled, (outputs, result), {})
            return result

        return scale

    def _was_scaled(self, before: Any, after: Any) -> None:
        if isinstance(after, torch.Tensor) and after.numel() == 1 and after.grad_fn is not None and before.detach().any():
            self._scaled[graph.edge_of(after)] = float(after.detach()) / float(before.detach())

    def _called(self, name: str, result: Any, args: Any, kwargs: Any) -> None:
        if len(self._fresh) >= MAX_CALLS or not isinstance(result, torch.Tensor) or result.grad_fn is None:
            return
        bound = SIGNATURES[name].bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        put, target = (given[key].detach() for key in ("input", "target"))
        call = {
            "function": name,
            "options": {key: given[key] for key in OPTIONS if key in given},
            "weighted": any(given.get(key) is not None for key in WEIGHTS),
            "value": float(result.detach()) if result.numel() == 1 else None,
            "shapes": [list(put.shape), list(target.shape)],
            "short": put.dtype in (torch.bfloat16, torch.float16),
        }
        self._fresh.append((call, put, target))

    def backward(self, roots: Sequence[Any]) -> None:
        """Backward is called on *roots*: the loss functions called since the last time were for it."""
        self._last, self._fresh, self.value = self._fresh, [], None
        if not self._last or len(roots) != 1 or roots[0].numel() != 1 or roots[0].grad_fn is None:
            return
        self.value = float(roots[0].detach()) / self._scaled.get(graph.edge_of(roots[0]), 1.0)

    def report(self, outputs: Sequence[Any]) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
        """Header and buffers, the numbers only where there was one call, and it was small. *outputs* are what modules returned."""
        calls = [{**call, "share": _share(put, outputs)} for call, put, _ in self._last]
        buffers = {}
        if len(self._last) == 1 and sum(tensor.numel() for tensor in self._last[0][1:]) <= MAX_NUMBERS:
            buffers = {name: _numbers(tensor) for name, tensor in zip(("input", "target"), self._last[0][1:], strict=True)}
        return {"calls": calls, "backward": self.value}, buffers


def _share(put: Any, outputs: Sequence[Any]) -> float | None:
    """The share of a module's rows that a loss function was given, None where that cannot be said."""
    alike = [output for output in outputs if output.dim() and put.dim() and output.shape[1:] == put.shape[1:]]
    shares = [put.shape[0] / output.shape[0] for output in alike if output.shape[0]]
    return shares[0] if len(set(shares)) == 1 and shares[0] <= 1 else None


def _numbers(tensor: Any) -> tuple[str, bytes]:
    plain = tensor.to("cpu", torch.float32 if tensor.is_floating_point() and tensor.dtype != torch.float64 else torch.float64)
    plain = plain.contiguous()
    return f"f{plain.element_size()}", ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size())
