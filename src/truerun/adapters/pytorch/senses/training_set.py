"""Which parameters of the model train: who asks for a gradient, gets one, is held by an optimizer, and moves.

Looks after the first steps and then ever more rarely (1, 2, 4, 8 …), at a few numbers of each parameter of the largest module that
holds the optimizer's tensors. Sharded parameters and models of more than MAX_PARAMETERS tensors are left out.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch import reading
from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

MAX_PARAMETERS = 4096
NUMBERS = 4
ASKS, HELD, GIVEN, MOVED = 1, 2, 4, 8
EARLY_STEPS, SCAN_STEP = 16, 8
OPTIMIZERS = 8


@dataclass(slots=True, eq=False)
class Model:
    """What is known of the parameters of one optimizer's model, by name: numbers at the start, and what was seen since."""

    start: dict[str, bytes] = field(default_factory=dict)
    state: dict[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    scanned: frozenset[int] = frozenset()


class TrainingSet(Sense):
    """Frames of kind `trained`: the state of every parameter (see ASKS …), with names and sizes where these are new."""

    name = "training-set"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.models: dict[int, Model] = {}

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """Note the numbers before the first step."""
        model = watched.model()
        if model is None or (watched.number not in self.models and len(self.models) >= OPTIMIZERS):
            return
        known = self.models.setdefault(watched.number, Model())
        known.start = {name: _numbers(tensor) for name, tensor in _parameters(model)}
        known.state = {}

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """Look, if it is time to."""
        step = watched.steps
        if step & (step - 1) or watched.number not in self.models:
            return
        if step <= EARLY_STEPS or self.probe.budget.affords(time.perf_counter()):
            self._look(watched, self.models[watched.number])

    def _look(self, watched: Watched, known: Model) -> None:
        model = watched.model()
        parameters = _parameters(model) if model is not None else []
        held = {id(tensor) for other in self.probe.watched.values() for tensor in other.tensors} | known.scanned
        if watched.steps == SCAN_STEP and any(t.grad is not None and id(t) not in held for _, t in parameters):
            # An optimizer that has not stepped yet may have its turn later.
            known.scanned = _held_anywhere()
            held |= known.scanned
        state = {}
        for name, tensor in parameters:
            before = known.state.get(name, 0) & (GIVEN | MOVED)
            moved = name in known.start and bool(before & MOVED or _numbers(tensor) != known.start[name])
            now = ASKS * tensor.requires_grad | HELD * (id(tensor) in held) | GIVEN * (tensor.grad is not None) | MOVED * moved
            state[name] = before | now
        names = tuple(state)
        if not names or (state == known.state and watched.steps not in (SCAN_STEP, EARLY_STEPS)):
            return
        frame = {"kind": "trained", "step": self.probe.steps, "own_step": watched.steps, "optimizer": watched.number}
        if names != known.told:
            frame |= {"names": [name[:200] for name in names], "sizes": [tensor.numel() for _, tensor in parameters]}
        known.state, known.told = state, names
        self.probe.channel.send({**frame, "state": list(state.values())})


def _parameters(model: Any) -> list[tuple[str, Any]]:
    """The plain parameters of *model* by name, none where they are too many to look at."""
    named = list(torch.nn.Module.named_parameters(model))
    plain = [
        (name, t)
        for name, t in named
        if type(t) in (torch.Tensor, torch.nn.Parameter) and t.layout == torch.strided and not t.is_meta
    ]
    return plain if len(plain) <= MAX_PARAMETERS else []


def _numbers(tensor: Any) -> bytes:
    """A few numbers spread over *tensor*, bit for bit."""
    size = tensor.numel()
    if not size:
        return b""
    index = torch.arange(size - 1, -1, -max(1, size // NUMBERS), device=tensor.device)[:NUMBERS]
    return reading.gather([tensor], [index])[1]


def _held_anywhere() -> frozenset[int]:
    found: set[int] = set()
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.optim.Optimizer):
            found |= {id(tensor) for group in getattr(thing, "param_groups", ()) for tensor in group.get("params", ())}
    return frozenset(found)
