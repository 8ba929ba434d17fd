"""Remembers a few secret values of what `load_state_dict` was given, and finds them again when the next step begins.

Compares only where the optimizer's own state was loaded: a resume. Keeps numbers, no tensors; sharded parameters are left out.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.watched import Watched

COORDINATES = 4
MAX_DIFFER = 2000


class LoadingSense(Sense):
    """`loaded` frames name what differs; nothing is sent where all is as it was loaded."""

    name = "loading"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.drawn = random.SystemRandom()
        # By id of the parameter, and by id of the optimizer; the weak reference says whether it is still the same object.
        self.parameters: dict[int, tuple[Any, list[int], list[float]]] = {}
        self.states: dict[int, tuple[Any, list[tuple[Any, str, list[int], list[float]]]]] = {}

    def install(self) -> None:
        """Look after both kinds of loading."""
        self.wrap(torch.nn.Module, "load_state_dict", after=self.model_loaded)
        self.wrap(torch.optim.Optimizer, "load_state_dict", after=self.optimizer_loaded)

    def model_loaded(self, module: Any, state_dict: Any = None, *_: Any, **__: Any) -> None:
        """*module* was given *state_dict*."""
        for name, parameter in torch.nn.Module.named_parameters(module):
            given: Any = state_dict.get(name) if state_dict is not None else None
            if _plain(parameter) and _plain(given) and given.shape == parameter.shape:
                places, numbers = self._some(given)
                self.parameters[id(parameter)] = (weakref.ref(parameter), places, numbers)

    def optimizer_loaded(self, optimizer: Any, state_dict: Any = None, *_: Any, **__: Any) -> None:
        """*optimizer* was given *state_dict*, whose parameters are numbered in the order of its own."""
        if state_dict is None:
            return
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        kept = []
        for number, tensor in zip(numbers, tensors, strict=False):
            for name, given in (state_dict["state"].get(number) or {}).items():
                if _plain(tensor) and _plain(given) and given.layout == torch.strided:
                    kept.append((weakref.ref(tensor), str(name), *self._some(given)))
        self.states[id(optimizer)] = (weakref.ref(optimizer), kept)

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Compare, once, what *optimizer* and its parameters were loaded with."""
        owner, kept = self.states.pop(id(optimizer), (None, []))
        loaded = [self.parameters.pop(id(tensor), None) for tensor in watched.tensors] if self.parameters else []
        if owner is None or owner() is not optimizer:
            return
        place = {id(tensor): i for i, tensor in enumerate(watched.tensors)}
        differ, compared = [], 0
        for tensor, name, live, places, numbers in (*_parameters(loaded), *_states(optimizer, kept)):
            compared += len(places)
            count = _different(live, places, numbers)
            if count and id(tensor) in place:
                differ.append([place[id(tensor)], name, count])
        if differ:
            stamp = {"optimizer": watched.number, "step": self.probe.steps, "compared": compared}
            self.probe.channel.send({"kind": "loaded", **stamp, "differ": differ[:MAX_DIFFER]})

    def _some(self, given: Any) -> tuple[list[int], list[float]]:
        places = [self.drawn.randrange(given.numel()) for _ in range(min(COORDINATES, given.numel()))]
        return places, _read(given, places)


def _parameters(loaded: list[Any]) -> Iterator[tuple[Any, str, Any, list[int], list[float]]]:
    for entry in loaded:
        tensor = None if entry is None else entry[0]()
        if tensor is not None:
            yield tensor, "p", tensor, entry[1], entry[2]


def _states(optimizer: Any, kept: list[Any]) -> Iterator[tuple[Any, str, Any, list[int], list[float]]]:
    for reference, name, places, numbers in kept:
        tensor = reference()
        if tensor is not None:
            yield tensor, name, (optimizer.state.get(tensor) or {}).get(name), places, numbers


def _different(live: Any, places: list[int], numbers: list[float]) -> int:
    """How many values of *live* are not the loaded *numbers*, once those are of its type."""
    if not isinstance(live, torch.Tensor) or live.numel() <= max(places, default=0):
        return len(places)
    given = torch.tensor(numbers, dtype=torch.float64).to(live.dtype).double().tolist()
    return sum(a != b and not (a != a and b != b) for a, b in zip(given, _read(live, places), strict=True))  # noqa: PLR0124 (NaN)


def _read(tensor: Any, places: list[int]) -> list[float]:
    taken: list[float] = torch.take(tensor.detach(), torch.tensor(places, device=tensor.device)).double().tolist()
    return taken


def _plain(tensor: Any) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.numel() > 0
