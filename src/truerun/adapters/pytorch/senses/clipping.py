"""Which gradients were clipped, to what, and what reached the step; and what the gradient scaler let through.

Wraps torch's clipping functions where they do their work, so that every framework's call is seen. At most calls it only notes
who was clipped; at the first steps and at some later ones the norm of what the step is given is computed.
"""

from __future__ import annotations

import functools
import importlib
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

FULL_STEPS = 8
LATER_STEPS = 32
MAX_CALLS = 8
LOOSE = (torch.bfloat16, torch.float16)


@dataclass(slots=True, eq=False)
class Clip:
    """One call: `what` is `norm` or `value`; `late` when nothing was computed since its tensors' optimizer stepped."""

    what: str
    limit: float
    order: float
    tensors: Any
    before: Any
    late: bool
    scaled: bool
    backward_since: bool = False


class Clipping(Sense):
    """
    Puts into a step's row: `clips` (calls that the step follows), `late` (how many ran after the step before, with nothing computed
    since), `scale` (the calls saw gradients still multiplied by it); where it is time to measure, `norm` and `largest` of all its
    gradients, and `measured`, of each call: what, limit, norm before, norm now, tensors of it, tensors of the step.
    """

    name = "clipping"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.owners: dict[int, int] = {}
        self.numbers: set[int] = set()
        self.fresh: set[int] = set()
        self.open: list[Clip] = []
        self.order = 2.0
        self.unscaled: set[int] = set()
        self.scaler: Callable[[], Any] = lambda: None

    def install(self) -> None:
        """Wrap the two functions that clip, under each name that torch gives them."""
        functions = importlib.import_module("torch.nn.utils.clip_grad")
        for owner in (functions, torch.nn.utils):
            self.wrap(owner, "clip_grad_norm_", before=self._will_clip_norm)
            self.probe.replace(owner, "clip_grad_value_", self._clip_value)
        self.wrap(functions, "_clip_grads_with_norm_", before=self._clips_norm)
        self.wrap(torch.amp.GradScaler, "unscale_", before=self._unscales)
        self.wrap(torch.amp.GradScaler, "scale", before=self._scales)

    # What the program calls.

    def _will_clip_norm(self, parameters: Any, max_norm: Any, norm_type: Any = 2.0, *_: Any, **__: Any) -> None:
        self.order = float(norm_type)

    def _clips_norm(self, parameters: Any, max_norm: Any, total_norm: Any, *_: Any, **__: Any) -> None:
        self._note("norm", max_norm, self.order, parameters, total_norm)
        self.order = 2.0

    def _clip_value(self, original: Any) -> Any:
        @functools.wraps(original)
        def clip_grad_value_(parameters: Any, clip_value: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(parameters, clip_value, *args, **kwargs)
            if isinstance(parameters, types.GeneratorType):
                parameters = list(parameters)  # read by the look and by the function
            self.tell(self._note, ("value", clip_value, float("inf"), parameters, None), {})
            return original(parameters, clip_value, *args, **kwargs)

        return clip_grad_value_

    def _unscales(self, scaler: Any, optimizer: Any, *_: Any, **__: Any) -> None:
        self.unscaled.add(id(optimizer))

    def _scales(self, scaler: Any, *_: Any, **__: Any) -> None:
        if self.scaler() is not scaler and scaler.is_enabled():
            self.scaler = weakref.ref(scaler)

    def _note(self, what: str, limit: Any, order: float, tensors: Any, before: Any) -> None:
        if isinstance(tensors, torch.Tensor):
            tensors = [tensors]
        if not isinstance(tensors, list | tuple) or not tensors:
            return
        owner = self.owners.get(id(tensors[0]))
        scaled = self.scaler() is not None and not self.unscaled
        late = owner is not None and owner not in self.fresh
        if len(self.open) < MAX_CALLS:
            self.open.append(Clip(what, float(limit), order, tensors, before, late, scaled))

    # The steps.

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """Remember whose tensors are whose."""
        self.owners.update((id(tensor), watched.number) for tensor in watched.tensors)
        self.numbers.add(watched.number)
        self.fresh.add(watched.number)

    def before_backward(self, tensors: Any) -> None:
        """What is clipped from here on belongs to new gradients."""
        self.fresh |= self.numbers
        for clip in self.open:
            clip.backward_since = True

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Measure what the step is given, where it is time to."""
        mine = [clip for clip in self.open if self.owners.get(id(clip.tensors[0])) == watched.number]
        self.open = [clip for clip in self.open if clip not in mine and not clip.backward_since]
        good = [clip for clip in mine if not clip.late]
        if mine:
            self.extra["clips"] = len(good)
        if len(good) < len(mine):
            self.extra["late"] = len(mine) - len(good)
        if any(clip.scaled for clip in good):
            self.extra["scale"] = float(self.scaler().get_scale())
        self.unscaled.discard(id(optimizer))
        if (good or self._declared()) and self._is_time(watched):
            self._measure(watched, [clip for clip in good if not clip.backward_since and not clip.scaled])

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """The gradients are used up."""
        self.fresh.discard(watched.number)

    def _declared(self) -> bool:
        return bool({"clip_norm", "clip_value"} & self.probe.settings.declared.keys())

    def _is_time(self, watched: Watched) -> bool:
        return watched.steps <= FULL_STEPS or watched.capture is not None or watched.steps % LATER_STEPS == 0

    def _measure(self, watched: Watched, clips: list[Clip]) -> None:
        gradients = {id(t): t.grad for t in watched.tensors if type(t.grad) is torch.Tensor and t.grad.layout == torch.strided}
        if not gradients or len(gradients) < sum(tensor.grad is not None for tensor in watched.tensors):
            return
        self.extra["norm"] = _norm(list(gradients.values()), 2.0)
        self.extra["largest"] = _norm(list(gradients.values()), float("inf"))
        self.extra["loose"] = any(gradient.dtype in LOOSE for gradient in gradients.values())
        shown = []
        for clip in clips:
            clipped = [tensor.grad for tensor in clip.tensors if id(tensor) in gradients]
            if len(clipped) == sum(tensor.grad is not None for tensor in clip.tensors) and clipped:
                before = float(clip.before) if clip.before is not None else None
                now = _norm(clipped, clip.order)
                shown.append([clip.what, clip.limit, before, now, len(clipped), len(gradients)])
        if shown:
            self.extra["measured"] = shown


def _norm(gradients: list[Any], order: float) -> float:
    """The norm of all *gradients* as one vector, accumulated in single precision at least."""
    with torch.no_grad():
        parts = [
            torch.linalg.vector_norm(g, order, dtype=torch.float32 if g.dtype in LOOSE else None).double().cpu()
            for g in gradients
        ]
        return float(torch.linalg.vector_norm(torch.stack(parts), order))
