"""Whether gradients are cleared between two steps of one optimizer, and whether a step uses the same gradients again.

A gradient that nobody touched is the same memory at the same version of torch's own counter, so nothing is read at an ordinary
step. Only when a step found its gradients untouched are a few numbers read at the next one, because `gradient.data` can be
written to without being counted. Looks at up to three tensors of each optimizer, drawn anew by the system's generator.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

TENSORS = 3
NUMBERS = 16
OPTIMIZERS = 16
REDRAW_STEPS = 16
CALM_STEPS = 8
_draw = random.SystemRandom()


class Kept:
    """The gradients that one optimizer's last step left behind: where they are, their versions, and what became of them."""

    def __init__(self, *, with_backward: bool) -> None:
        self.picks: list[tuple[int, Any]] = []
        self.marks: list[tuple[int, int] | None] = []
        self.left: set[int] = set()
        self.backwards = self.calm = 0
        self.with_backward = with_backward
        self.suspects = False
        self.numbers: list[list[float]] | None = None

    def untouched(self) -> set[int]:
        """Which of the tensors still have the gradient that the last step used, not written to since."""
        return {i for (i, tensor), mark in zip(self.picks, self.marks, strict=True) if mark and _mark(tensor) == mark}

    def filled(self) -> set[int]:
        """Which of the tensors have a gradient; that it is not made of zeros is looked at where there is a suspicion."""
        return {i for i, tensor in self.picks if tensor.grad is not None and (not self.suspects or any(_numbers(tensor)))}

    def read(self) -> list[list[float]]:
        """A few numbers of each gradient."""
        return [_numbers(tensor) for _, tensor in self.picks]


class Clearing(Sense):
    """Puts into a step's row `kept` (tensors that kept the old gradient, of `looked`) or `again` (the same gradients as before)."""

    name = "clearing"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.kept: dict[int, Kept] = {}

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """Start anew: the tensors may be others."""
        if watched.number in self.kept or len(self.kept) < OPTIMIZERS:
            self.kept[watched.number] = Kept(with_backward=self.probe.backwards > 0)

    def before_backward(self, tensors: Any) -> None:
        """Gradients that were not cleared until the last `backward` before a step are added up with the new ones."""
        for kept in self.kept.values():
            kept.backwards += 1
            if kept.backwards == 1:
                kept.left = kept.untouched()
            if kept.left and (kept.suspects or kept.backwards > 1):
                # Cleared before a later backward: another network had its turn in between.
                kept.left &= kept.filled()

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Say what was found since the last step of this optimizer."""
        kept = self.kept.get(watched.number)
        if kept is None or not kept.picks:
            return
        if kept.backwards:
            kept.with_backward = True
            kept.calm += 1
            if kept.left and kept.suspects:
                self.extra.update(kept=sorted(kept.left), looked=len(kept.picks))
            kept.suspects = bool(kept.left)
        elif kept.with_backward and len(kept.untouched()) == len(kept.picks):
            kept.calm = 0
            if kept.numbers and kept.numbers == kept.read() and all(map(any, kept.numbers)):
                self.extra["again"] = True
            kept.numbers = []
        kept.left = set()

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """Note where the gradients are that the step has used."""
        kept = self.kept.get(watched.number)
        if kept is None:
            return
        if not kept.picks or watched.steps % REDRAW_STEPS == 0:
            dense = [(i, tensor) for i, tensor in enumerate(watched.tensors) if _mark(tensor)]
            kept.picks = _draw.sample(dense, min(TENSORS, len(dense)))
            kept.numbers = None
        kept.marks = [_mark(tensor) for _, tensor in kept.picks]
        kept.backwards = 0
        if kept.calm > CALM_STEPS:
            kept.numbers = None
        if kept.numbers is not None:
            kept.numbers = kept.read()


def _mark(tensor: Any) -> tuple[int, int] | None:
    """Where the gradient of *tensor* is and how often torch counted a write to it; None where that cannot be said."""
    gradient = tensor.grad
    if type(gradient) is not torch.Tensor or gradient.layout != torch.strided or gradient.is_inference():
        return None
    return gradient.data_ptr(), gradient._version  # noqa: SLF001 (the counter has no other name)


def _numbers(tensor: Any) -> list[float]:
    """Up to NUMBERS values spread over the gradient of *tensor*; none where it has no dense gradient."""
    if _mark(tensor) is None:
        return []
    size = tensor.grad.numel()
    index = torch.arange(0, size, max(1, size // NUMBERS), device=tensor.grad.device)[:NUMBERS]
    values: list[float] = torch.take(tensor.grad.detach(), index).tolist()
    return values
