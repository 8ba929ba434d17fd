"""The probe: sees every optimizer step of a training process from inside and hands over what it saw.

Uses torch's global optimizer hooks, counts calls of `torch.autograd.backward` and notes what legally changes things
between steps: torch schedulers and `load_state_dict`. Judges nothing, never raises into the program, never touches a
random number generator, writes to no tensor. On any fault of its own it stops and says so.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch

from truerun.adapters.pytorch.budget import FULL_STEPS, Budget
from truerun.adapters.pytorch.channel import Channel
from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.senses import make_senses
from truerun.adapters.pytorch.settings import SOCKET, Settings, parse_settings
from truerun.adapters.pytorch.watched import Buffers, Watched
from truerun.adapters.pytorch.wrapping import Look, calling, of_a_signal, replace, uncompiled

FIRST_NONCE_SECONDS = 0.1
NONCE_SECONDS = 0.005
BATCH_STEPS = 64
BATCH_SECONDS = 0.25
FLUSH_SECONDS = 10.0  # only a busy machine needs more than a moment
STALLED = 8
WRAPPERS = 4
_clock = time.perf_counter


class Probe:
    """One process's probe. `steps` counts optimizer steps of all optimizers in this process."""

    def __init__(self, settings: Settings, channel: Channel) -> None:
        self.settings = settings
        self.channel = channel
        self.budget = Budget(settings.overhead, settings.every)
        self.key = bytes.fromhex(settings.replay_key) if settings.replay_key else None
        self.watched: weakref.WeakKeyDictionary[Any, Watched] = weakref.WeakKeyDictionary()
        self.steps = self.backwards = self.total_backwards = self.numbered = 0
        self.loss: Any = None
        self.unscaled: Any = None
        self.notes: list[str] = []
        self.rows: list[list[Any]] = []
        self.sent_at = self.waited_seconds = 0.0
        self.gradients = b""
        self.off = False
        self.pid = os.getpid()
        self.hooks: tuple[Any, ...] = ()
        self.counting: Any = None
        self.senses = make_senses(self)
        self._undo: list[Callable[[], None]] = []
        self._answers: dict[Callable[..., None], list[tuple[Sense, Look]]] = {}

    # What the program does, seen from outside of it.

    def hello(self) -> dict[str, Any]:
        """The first frame of a process."""
        return {
            "kind": "hello",
            "pid": os.getpid(),
            "rank": os.environ.get("RANK"),
            "world": os.environ.get("WORLD_SIZE"),
            "command": [text[:400] for text in sys.argv[:20]],
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
        }

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """
        Global pre-hook: runs before the optimizer's own hooks, so a gradient altered by one of those shows.

        `step(closure)` makes its gradients inside the step (Lightning does): the closure is passed on wrapped, and the
        look is taken when it returns.
        """
        if self.off:
            return None
        begun = _clock()
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        try:
            self.budget.step(begun)
            self._before(optimizer, now=closure is None)
        except Exception as error:  # a fault of the watcher must never reach the program
            if of_a_signal(error):
                raise
            self._fault(error)
        self.budget.spent_seconds += _clock() - begun
        if closure is None or self.off:
            return None
        wrapped = calling(closure, self, after=lambda *_, **__: self._look(optimizer, self.watched[optimizer]))
        return ((args[0], wrapped, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": wrapped})

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Global post-hook: runs last."""
        if self.off:
            return
        begun = _clock()
        try:
            self._after(optimizer)
        except Exception as error:  # a fault of the watcher must never reach the program
            if of_a_signal(error):
                raise
            self._fault(error)
        self.budget.spent_seconds += _clock() - begun
        if self.settings.stop_after is not None and self.steps >= self.settings.stop_after:
            self._stop()

    def before_backward(self, tensors: Any = None, *_: Any, **__: Any) -> None:
        """`torch.autograd.backward` was called on *tensors*."""
        self.backwards += 1
        self.total_backwards += 1
        first = tensors[0] if isinstance(tensors, list | tuple) and tensors else tensors
        if isinstance(first, torch.Tensor) and first.numel() == 1:
            # What a GradScaler multiplied by its scale was the loss; the scale jumps, the loss does not.
            self.loss, self.unscaled = first.detach() if self.unscaled is None else self.unscaled, None
        if not self.steps and self.total_backwards in (2, 16, 128, 1024) and self.channel.open(self.hello()):
            self.channel.send({"kind": "backwards", "count": self.total_backwards, "optimizers": _living_optimizers()})
        if self.steps and self.backwards >= STALLED and self.backwards.bit_count() == 1:
            self._flush()
            self.channel.send({"kind": "stalled", "step": self.steps, "backwards": self.backwards})
        if self.hooks and any(hook_id not in table for table, hook_id in self.hooks):
            self.hooks = ()
            self.channel.send({"kind": "unhooked", "step": self.steps, "what": "torch.optim"})
        self._ask(Sense.before_backward, tensors)

    def after_backward(self, tensors: Any = None, *_: Any, **__: Any) -> None:
        """`torch.autograd.backward` has run on *tensors*."""
        self._ask(Sense.after_backward, tensors)

    def note(self, what: str) -> None:
        """Something legal that explains a change before the next step."""
        if what not in self.notes:
            self.notes.append(what)

    def scheduled(self, scheduler: Any, by: str) -> None:
        """A torch scheduler is about to set hyperparameters (what differs until then was the *code*), or has done so."""
        optimizer = getattr(scheduler, "optimizer", None)
        for _ in range(WRAPPERS):
            watched = self.watched.get(optimizer) if isinstance(optimizer, torch.optim.Optimizer) else None
            if watched is not None:
                watched.notice_groups(optimizer, by)
                return
            # A wrapper around the optimizer, such as Accelerate's, passes for it and holds it.
            optimizer = getattr(optimizer, "__dict__", {}).get("optimizer")

    # One step.

    def _before(self, optimizer: Any, *, now: bool) -> None:
        watched = self._watch(optimizer)
        self.steps += 1
        watched.steps += 1
        watched.notice_groups(optimizer, "code")
        held, header, buffers = watched.compare_held(optimizer)
        self.held = held
        if header is not None:
            self._flush()
            self.channel.send({"kind": "discontinuity", **self._stamp(watched), "notes": self.notes, **header}, buffers)
        if now:
            self._look(optimizer, watched)
            return
        self.note("closure")
        if self.key is not None:
            self.gradients = watched.fingerprint_before(self.key)

    def _look(self, optimizer: Any, watched: Watched) -> None:
        """Capture what the step is about to work on; gradients are complete now."""
        if self.key is not None:
            self.gradients = watched.fingerprint_before(self.key)
        if watched.obstacle is None and self._is_due(watched) and not watched.before(optimizer, self._nonce(watched)):
            self.channel.send({**watched.describe(optimizer), "again": True, "step": self.steps})
        self._ask(Sense.before_step, watched, optimizer)

    def _after(self, optimizer: Any) -> None:
        watched = self.watched[optimizer]
        begun = _clock()
        checked = watched.after(optimizer)
        self._ask(Sense.after_step, watched, optimizer)
        if not self.backwards and self.counting is not None and torch.autograd.backward is not self.counting:
            # Put back, not wrapped once more: a wrapper of somebody else would still have called ours.
            self.counting = None
            self.channel.send({"kind": "unhooked", "step": self.steps, "what": "torch.autograd.backward"})
        loss = self._read_loss(sampled=checked is not None)
        fingerprint = watched.fingerprint(loss, self.gradients) if self.key is not None else None
        rates, groups = watched.settings()
        row = [self.steps, watched.number, watched.steps, self.backwards, loss, checked is not None, self.held]
        extra = {sense.name: sense.extra for sense in self.senses if sense.extra}
        self.rows.append([*row, fingerprint, rates, groups, [*self.notes, *watched.notes], extra])
        for sense in self.senses:
            if sense.extra:
                sense.extra = {}
        self.backwards, self.notes, watched.notes = 0, [], []
        if checked is not None:
            self._flush()
            self._hand_over(watched, *checked, begun=begun)
        else:
            if watched.due is not None and watched.due == watched.steps + 1:
                self.channel.send({"kind": "ask", "optimizer": watched.number, "step": watched.due})
            if watched.nonce is not None and watched.obstacle is None and self.budget.affords(begun):
                watched.hold(watched.nonce + watched.steps.to_bytes(8, "big"))
            if len(self.rows) >= BATCH_STEPS or begun - self.sent_at > BATCH_SECONDS:
                self._flush()

    def _watch(self, optimizer: Any) -> Watched:
        watched = self.watched.get(optimizer)
        if watched is None:
            self.channel.open(self.hello())
            watched = Watched(self.numbered, optimizer, self.settings.coordinates)
            self.numbered += 1
            self.watched[optimizer] = watched
            self.channel.send(watched.describe(optimizer))
            self._ask(Sense.new_optimizer, watched, optimizer)
        elif watched.changed_shape(optimizer):
            watched.adopt(optimizer, self.settings.coordinates)
            self.channel.send({**watched.describe(optimizer), "again": True, "step": self.steps})
            self._ask(Sense.new_optimizer, watched, optimizer)
        return watched

    def _is_due(self, watched: Watched) -> bool:
        """Whether the agent (or, when it is slow to answer, chance) wants this step looked at in full."""
        if watched.steps <= FULL_STEPS or self.settings.every == 1:
            return True
        if watched.due is None:
            answer = self.channel.receive("next", watched.number)
            if answer is not None:
                watched.due = max(watched.steps, watched.asked_at + int(answer.header["gap"]))
            elif int.from_bytes(os.urandom(4), "big") < 2**32 / self.budget.mean_gap(_clock()) / 2:
                watched.due = watched.steps
        return watched.due is not None and watched.due <= watched.steps

    def _nonce(self, watched: Watched) -> bytes:
        wait, begun = FIRST_NONCE_SECONDS if watched.steps == 1 else NONCE_SECONDS, _clock()
        found = self._asked(watched, wait)
        self.waited_seconds += _clock() - begun
        watched.nonce, watched.from_agent = found or os.urandom(16), found is not None
        return watched.nonce

    def _asked(self, watched: Watched, wait: float) -> bytes | None:
        """The agent's secret for the coming step; None when it is late."""
        for _ in range(4):
            answer = self.channel.receive("nonce", watched.number, wait)
            if answer is None:
                break
            if answer.header.get("step") == watched.steps:
                return bytes.fromhex(answer.header["nonce"])
        return None

    def _hand_over(self, watched: Watched, header: dict[str, Any], buffers: Buffers, *, begun: float) -> None:
        gap = 1 if watched.steps < FULL_STEPS else self.budget.mean_gap(begun)
        watched.due, watched.asked_at = watched.steps + 1 if gap == 1 else None, watched.steps
        groups = [dict(group) for group in watched.groups]
        frame = {"kind": "sample", **self._stamp(watched), "gap": gap, "groups": groups, **header}
        self.channel.send(frame, buffers)
        agent = self.channel.receive("cost", watched.number)
        cost = float(agent.header["seconds"]) if agent is not None else 0.0
        self.budget.spent_seconds += cost
        self.budget.sampled(2 * (_clock() - begun) + cost)

    def _stamp(self, watched: Watched) -> dict[str, Any]:
        return {"optimizer": watched.number, "step": self.steps, "own_step": watched.steps}

    def _read_loss(self, *, sampled: bool) -> float | None:
        loss = self.loss
        if loss is None or not (sampled or self.key is not None or loss.device.type == "cpu"):
            return None
        self.loss = None
        return float(loss)

    def _flush(self) -> None:
        if self.rows:
            self.channel.send({"kind": "steps", "rows": self.rows, **self.budget.spent()})
            self.rows = []
        self.sent_at = _clock()

    # Endings.

    def goodbye(self) -> None:
        """The last frame of a process that ends in the ordinary way; a fork that did nothing has nothing to say."""
        if os.getpid() != self.pid and not self.total_backwards:
            return
        if self.channel.open(self.hello()):
            self._ask(Sense.goodbye)
            self._flush()
            last = {
                "steps": self.steps,
                "backwards": self.total_backwards,
                "since": self.backwards,
                "dropped": self.channel.dropped,
            }
            unstepped = _living_optimizers() if not self.steps and self.total_backwards else 0
            self.channel.send({"kind": "bye", **last, **self.budget.spent(), "optimizers": unstepped})
            self.channel.flush(FLUSH_SECONDS)

    def forked(self) -> None:
        """Called in a fork of this process: what happened before it is the parent's to report."""
        self.watched = weakref.WeakKeyDictionary()
        self.budget = Budget(self.settings.overhead, self.settings.every)
        self.steps = self.backwards = self.total_backwards = self.numbered = 0
        self.notes, self.rows, self.loss = [], [], None

    def _stop(self) -> None:
        """The agent asked for so many steps and no more: end here, with exit code 0, before anything else happens."""
        self.goodbye()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def fall_silent(self) -> None:
        """Nobody listens any more: look at nothing, so that training goes on as if it had never been watched."""
        self.off = True
        self.rows = []

    def _fault(self, error: Exception) -> None:
        self.off = True
        self._flush()
        self.channel.send({"kind": "fault", "step": self.steps, "what": _words(error)})

    # Looks at what torch does, and their guard.

    def tell(self, seen: Look, args: Any, kwargs: Any) -> None:
        """Call *seen*, timed; an error of its own ends the watching and goes no further."""
        if self.off:
            return
        begun = _clock()
        try:
            seen(*args, **kwargs)
        except Exception as error:  # a fault of the watcher must never reach the program
            if of_a_signal(error):
                raise
            self._fault(error)
        self.budget.spent_seconds += _clock() - begun

    def guard(self, sense: Sense, seen: Look, args: Any, kwargs: Any) -> None:
        """Call *seen* of *sense*, timed; an error of its own ends the sense and goes no further."""
        begun = _clock()
        self._guarded(sense, seen, *args, **kwargs)
        took = _clock() - begun
        self.budget.spent_seconds += took
        self.budget.spent_by[sense.name] += took

    def _ask(self, question: Callable[..., None], *args: Any) -> None:
        """Put *question*, a method of Sense, to every sense that has an answer; the caller keeps the time of all of them."""
        answers = self._answers.get(question)
        if answers is None:
            name = question.__name__
            asked = [sense for sense in self.senses if getattr(type(sense), name) is not question]
            answers = self._answers[question] = [(sense, getattr(sense, name)) for sense in asked]
        spent_by, begun = self.budget.spent_by, _clock()
        for sense, answer in answers:
            self._guarded(sense, answer, *args)
            now = _clock()
            spent_by[sense.name] += now - begun
            begun = now

    def _guarded(self, sense: Sense, seen: Look, *args: Any, **kwargs: Any) -> None:
        if self.off or sense.off:
            return
        try:
            seen(*args, **kwargs)
        except Exception as error:  # a fault of the watcher must never reach the program
            if of_a_signal(error):
                raise
            sense.off = True
            self.channel.send({"kind": "fault", "step": self.steps, "sense": sense.name, "what": _words(error)})

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put make(original) in the place of a function of *owner* until `uninstall`."""
        self._undo.append(replace(owner, name, make))

    def install(self) -> None:
        """Begin to look: hooks and wrappers in torch."""
        # A compiled `step` calls the hooks; tracing through them would tear them apart.
        uncompiled(Probe.before_step)
        uncompiled(Probe.after_step)
        optim = importlib.import_module("torch.optim.optimizer")
        before = optim.register_optimizer_step_pre_hook(self.before_step)
        after = optim.register_optimizer_step_post_hook(self.after_step)
        self.hooks = ((optim._global_optimizer_pre_hooks, before.id), (optim._global_optimizer_post_hooks, after.id))  # noqa: SLF001
        self._undo += [before.remove, after.remove]
        self._wrap(torch.autograd, "backward", before=self.before_backward, after=self.after_backward)
        self.counting = torch.autograd.backward
        schedulers = torch.optim.lr_scheduler
        for kind in list(vars(schedulers).values()):
            if isinstance(kind, type) and issubclass(kind, (schedulers.LRScheduler, schedulers.ReduceLROnPlateau)):
                self._wrap(kind, "step", before=self._before_scheduler, after=self._after_scheduler)
        self._noting(torch.optim.Optimizer, "load_state_dict", "load_state_dict")
        self._noting(torch.nn.Module, "load_state_dict", "load_state_dict")
        self._noting(torch.amp.GradScaler, "step", "grad_scaler")
        self._wrap(torch.amp.GradScaler, "scale", before=self._before_scaling)
        for sense in self.senses:
            self._guarded(sense, sense.install)

    def uninstall(self) -> None:
        """Leave torch as it was found."""
        self.hooks, self.counting = (), None
        while self._undo:
            self._undo.pop()()

    def _before_scheduler(self, scheduler: Any, *_: Any, **__: Any) -> None:
        self.scheduled(scheduler, "code")

    def _after_scheduler(self, scheduler: Any, *_: Any, **__: Any) -> None:
        self.scheduled(scheduler, "scheduler")
        self.note("scheduler")

    def _before_scaling(self, scaler: Any, outputs: Any, *_: Any, **__: Any) -> None:
        if isinstance(outputs, torch.Tensor) and outputs.numel() == 1:
            self.unscaled = outputs.detach()

    def _noting(self, kind: type, method: str, what: str) -> None:
        self._wrap(kind, method, after=lambda *_, **__: self.note(what))

    def _wrap(self, owner: Any, name: str, *, before: Look | None = None, after: Look | None = None) -> None:
        self.replace(owner, name, lambda original: calling(original, self, before=before, after=after))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:400]


def _living_optimizers() -> int:
    import gc

    return sum(issubclass(type(thing), torch.optim.Optimizer) for thing in gc.get_objects())


_probe: Probe | None = None


def current() -> Probe | None:
    """The probe of this process, or None when nobody watches."""
    return _probe


def _forked() -> None:
    if _probe is not None:
        _probe.forked()


os.register_at_fork(after_in_child=_forked)


def start() -> None:
    """Begin to watch this process; called once, right after torch was imported."""
    global _probe  # noqa: PLW0603 (one process, one probe)
    path = os.environ.get(SOCKET)
    if _probe is not None or not path:
        return
    probe = Probe(parse_settings(), Channel(path))
    if probe.channel.open(probe.hello()):
        try:
            probe.install()
        except Exception as error:  # a torch that is not as expected: say so and leave the program alone
            probe._fault(error)  # noqa: SLF001 (same module)
            return
        probe.channel.on_lost = probe.fall_silent
        _probe = probe
        atexit.register(probe.goodbye)


def stop() -> None:
    """End what `start` began: say goodbye, leave torch as it was found, hang up."""
    global _probe
    probe, _probe = _probe, None
    if probe is not None:
        atexit.unregister(probe.goodbye)
        try:
            probe.goodbye()
        finally:
            probe.uninstall()
            probe.channel.close()
