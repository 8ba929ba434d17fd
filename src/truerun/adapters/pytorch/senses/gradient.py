"""Sees whether the gradient that an optimizer is about to use is the gradient of the loss that was computed.

At a random step now and then a window is open from the end of one step to the beginning of the next. In it the calls of modules
that hold the optimizer's parameters are noted, and the gradient that arrives at what they returned. Before the step each call is
repeated along a secret direction (`replaying.py`), and both sides travel to the agent: what the derivative of the calls comes to
with the gradient that arrived, and what the gradients of the parameters come to. Also whether gradients changed between the
backward pass and the step, what in the graph is not torch's own, and each tensor's gradient norm.

Says why when it cannot tell. Cannot see what happens between the loss and the outputs of the modules: that is the loss.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch import wrapping
from truerun.adapters.pytorch.gradient_window import Window
from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

EARLY_CHECKS, EARLY_STEPS = 3, 4
EVERY_CHECKS, EVERY_FACTOR = 16, 16
NEAREST, FARTHEST = 40, 100
CLOSER_LOOKS = 3
SHARE, CREDIT_SECONDS = 0.7, 0.1
EDITORS = ((torch.nn.utils, "clip_grad_norm_"), (torch.nn.utils, "clip_grad_value_"), (torch.nn.utils, "clip_grads_with_norm_"))


class GradientSense(Sense):
    """Opens a window for one optimizer at a time; `_left` counts down its steps to the next one."""

    name = "gradient"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.window: Window | None = None
        self.depth = 0
        self.checks = self._wrong = 0
        self.spent_seconds = 0.0
        self._started = 0.0
        self._left: weakref.WeakKeyDictionary[Watched, int] = weakref.WeakKeyDictionary()
        self._last: Callable[[], Watched | None] = lambda: None
        self._yielded = False
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """What may legally change gradients before a step is watched from the beginning: programs import it by name."""
        inner = sys.modules["torch.nn.utils.clip_grad"]
        for owner, name in (*EDITORS, *((inner, name) for _, name in EDITORS), (torch.amp.GradScaler, "unscale_")):
            self.wrap(owner, name, before=self._before_edit, after=lambda *_, name=name, **__: self._after_edit(name))

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """Decide by chance whether the next step is looked at."""
        if self.window is not None and self.window.watched is watched:
            self._close()
        left = self._left.get(watched, self._gap()) - 1
        if left <= 0 and self.window is None and self._affords(time.perf_counter()):
            if self._last() is watched and not self._yielded and any(n <= 1 for w, n in self._left.items() if w is not watched):
                self._yielded = True  # with several optimizers it is another one's turn
            else:
                self._open(watched)
                self._last, self._yielded = weakref.ref(watched), False
                left = self._gap()
        self._left[watched] = max(left, 1)

    def _affords(self, now: float) -> bool:
        self._started = self._started or now
        budget = self.probe.budget
        own = SHARE * budget.share * (now - self._started) + CREDIT_SECONDS
        return budget.affords(now) and (self.probe.settings.every is not None or self.spent_seconds < own)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.spent_seconds += time.perf_counter() - begun

    def _gap(self) -> int:
        every = self.probe.settings.every
        if every is not None:
            return every if self.checks < EVERY_CHECKS else every + secrets.randbelow(EVERY_FACTOR * every)
        if self.checks < EARLY_CHECKS:
            return 1 + secrets.randbelow(EARLY_STEPS)
        return NEAREST + secrets.randbelow(FARTHEST - NEAREST + 1)

    def _open(self, watched: Watched) -> None:
        self.checks += 1
        self.depth = 0
        self.window = window = Window(watched, watched.tensors, closer=self._wrong < CLOSER_LOOKS)
        window.why = _spread_or_compiled()
        if window.why is None:
            self._undo.append(wrapping.replace(torch.nn.Module, "_call_impl", self._watching_calls))
            look = wrapping.calling(torch.Tensor.register_hook, self, before=window.hooking)
            self._undo.append(wrapping.replace(torch.Tensor, "register_hook", lambda _: look))
            self._undo += window.loss.watch(self.tell, lambda: window.busy or self.off)

    def _close(self) -> None:
        while self._undo:
            self._undo.pop()()
        if self.window is not None:
            self.window.forget()
        self.window = None

    def _watching_calls(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _call_impl(module: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():  # what is being compiled must not depend on being watched
                return original(module, *args, **kwargs)
            window = self.window
            if window is None or self.off or not window.looks_at(module):
                return original(module, *args, **kwargs)
            if not window.depth:
                self.tell(window.entered, (module, args, kwargs), {})
            window.depth += 1
            try:
                result = original(module, *args, **kwargs)
            finally:
                window.depth -= 1
            if not window.depth:
                self.tell(window.returned, (result,), {"tell": self.tell})
            return result

        return _call_impl

    def before_backward(self, tensors: Any) -> None:
        """Look at the graph; only the outermost `backward` counts, since a checkpointed module runs one of its own inside."""
        self.depth += 1
        if self.window is not None and self.depth == 1:
            with self._timed():
                self.window.before_backward([tensors] if isinstance(tensors, torch.Tensor) else list(tensors))

    def after_backward(self, tensors: Any) -> None:
        """Gradients have arrived."""
        self.depth = max(0, self.depth - 1)
        if self.window is not None and not self.depth:
            with self._timed():
                self.window.after_backward()

    def _before_edit(self, *_: Any, **__: Any) -> None:
        if self.window is not None:
            with self._timed():
                self.window.settle()

    def _after_edit(self, name: str) -> None:
        if self.window is not None:
            self.window.edited(name)

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Compare, and hand over what was found."""
        window = self.window
        if window is None or window.watched is not watched:
            return
        with self._timed():
            window.settle()
            window.arrived()
            header, buffers = window.report()
        stamp = {"optimizer": watched.number, "step": self.probe.steps}
        self._wrong += len(window.passes) > 1
        self._close()
        self.probe.channel.send({"kind": "gradient", **stamp, **header}, buffers)

    def goodbye(self) -> None:
        """Leave torch as it was, when the process ends inside a window."""
        self._close()


def _spread_or_compiled() -> str | None:
    """Why no program of this kind can be looked into, None when it can."""
    spread = torch.distributed
    if spread.is_available() and spread.is_initialized() and spread.get_world_size() > 1:
        return "its gradients are averaged over processes"
    compiler = sys.modules.get("torch._dynamo.utils")
    if compiler is not None and compiler.counters["frames"]["total"]:
        return "parts of it are compiled"
    return None
