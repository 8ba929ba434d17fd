"""One optimizer under watch: which tensors it updates, and what is captured around one of its steps.

Captures and hands over; whether a value is right is judged in the agent (`monitoring/`).
"""

from __future__ import annotations

import hashlib
import struct
import weakref
from collections.abc import Callable
from typing import Any

import torch

from truerun.adapters.pytorch import parallel, reading, sparse
from truerun.adapters.pytorch.sampling import draw_coordinates, share_out
from truerun.adapters.pytorch.wrapping import within_compiled

CONTINUITY_TENSORS = 4
CONTINUITY_PER_TENSOR = 4
REPLAY_COORDINATES = 64
WHOLE_ELEMENTS = 65_536
Buffers = dict[str, tuple[str, bytes]]


class Watched:
    """The watch over one optimizer; `number` names it in frames."""

    def __init__(self, number: int, optimizer: Any, coordinates: int) -> None:
        self.number = number
        self.steps = 0
        self.due: int | None = None
        self.asked_at = 0
        self.nonce: bytes | None = None
        self.from_agent = False
        self.groups: tuple[Any, ...] = ()
        self.sent: tuple[Any, ...] = ()
        self._row_of: Any = None
        self._rates: list[Any] = []
        self._held_settings: list[list[Any]] | None = None
        self.notes: list[str] = []
        self.capture: tuple[Any, ...] | None = None
        self.held: tuple[list[int], list[Any], Buffers] | None = None
        self.model: Callable[[], Any] = lambda: None
        self.whole: list[int] = []
        self.adopt(optimizer, coordinates)

    def adopt(self, optimizer: Any, coordinates: int) -> None:
        """Take stock of *optimizer*: its tensors, their sizes, its rule."""
        self.shape = tuple(len(group["params"]) for group in optimizer.param_groups)
        self.tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        self.rule, self.state_names = reading.rule_of(optimizer)
        self.obstacle = reading.obstacle(optimizer)
        self.unsure = reading.unsure(optimizer)
        locals_ = [reading.local(tensor) for tensor in self.tensors]
        self.sizes = [0 if tensor is None else tensor.numel() for tensor in locals_]
        self.counts = share_out(self.sizes, coordinates)
        self.held = None

    def changed_shape(self, optimizer: Any) -> bool:
        """Whether groups were added or tensors taken out or put in since the last look."""
        groups = optimizer.param_groups
        return len(groups) != len(self.shape) or any(
            len(group["params"]) != n for group, n in zip(groups, self.shape, strict=True)
        )

    def describe(self, optimizer: Any) -> dict[str, Any]:
        """The frame that introduces the optimizer to the agent."""
        kind, place = type(optimizer), parallel.place()
        model, names = reading.model_of(self.tensors)
        self.model = weakref.ref(model) if model is not None else lambda: None
        return {
            "kind": "optimizer",
            "optimizer": self.number,
            "rank": None if place is None else place[0],
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "rule": self.rule,
            "obstacle": self.obstacle,
            "unsure": self.unsure,
            "groups": [dict(reading.hyperparameters(group)) for group in optimizer.param_groups],
            "shape": list(self.shape),
            "sizes": self.sizes,
            "whole_sizes": [tensor.numel() for tensor in self.tensors],
            "counts": self.counts,
            "types": [str(tensor.dtype).removeprefix("torch.") for tensor in self.tensors],
            "names": names,
            "seed": torch.initial_seed(),
        }

    def settings(self) -> tuple[list[Any], list[dict[str, Any]] | None]:
        """For a step's row: the learning rates, which change all the time, and all settings where others changed too."""
        if self.groups is not self._row_of:
            self._row_of, self._rates = self.groups, [dict(group).get("lr") for group in self.groups]
            rest = tuple(tuple(item for item in group if item[0] != "lr") for group in self.groups)
            if rest != self.sent:
                self.sent = rest
                return self._rates, [dict(group) for group in self.groups]
        return self._rates, None

    def notice_groups(self, optimizer: Any, by: str) -> None:
        """Read the hyperparameters of all groups; `notes` gets `<by>.<name>` for each that differs from the last reading."""
        held = [[group.get(name) for name in reading.HYPERPARAMETERS] for group in optimizer.param_groups]
        if self._held_settings is not None and reading.unchanged(held, self._held_settings):
            return
        self._held_settings = held
        now = tuple(reading.hyperparameters(group) for group in optimizer.param_groups)
        if now != self.groups and len(now) == len(self.groups):
            for old, new in zip(self.groups, now, strict=True):
                before = dict(old)
                self.notes += [f"{by}.{name}" for name, value in new if before.get(name) != value]
            self.notes = list(dict.fromkeys(self.notes))
        self.groups = now

    def _indices(self, nonce: bytes, tensors: list[int], counts: list[int]) -> list[Any]:
        drawn = draw_coordinates(nonce, [self.sizes[i] for i in tensors], counts)
        return [torch.tensor(flat, device=self.tensors[i].device) for i, flat in zip(tensors, drawn, strict=True)]

    def _state(self, optimizer: Any, tensors: list[Any], indices: list[Any], suffix: str) -> Buffers:
        found: Buffers = {}
        for name in self.state_names:
            values = reading.state_of(optimizer, tensors, name)
            if any(value is not None for value in values):
                found[f"{name}.{suffix}"] = reading.gather(values, indices)
        return found

    def _choose(self, nonce: bytes) -> list[int]:
        """Tensors to capture whole, in a secret order: as many as stay within the bound, one at least."""
        able = [i for i, tensor in enumerate(self.tensors) if tensor.grad is not None and self.sizes[i] > 0]
        able.sort(key=lambda i: hashlib.blake2b(nonce + i.to_bytes(8, "big")).digest())
        chosen: list[int] = []
        total = 0
        for i in able:
            if total + self.sizes[i] <= WHOLE_ELEMENTS or (not chosen and self.sizes[i] <= reading.MAX_WHOLE_ELEMENTS):
                chosen.append(i)
                total += self.sizes[i]
        self.shapes: dict[int, dict[str, tuple[int, ...]]] = {i: {} for i in chosen}
        return chosen

    def _captured_whole(self, optimizer: Any, suffix: str) -> Buffers:
        """The chosen tensors with gradient (before the step) and state, every element of them."""
        found: Buffers = {}
        for i in self.whole:
            tensor = self.tensors[i]
            state = optimizer.state.get(tensor) or {}
            parts = {f"p.{suffix}": tensor, **({"g": tensor.grad} if suffix == "0" else {})}
            parts |= {f"{name}.{suffix}": state[name] for name in reading.WHOLE[str(self.rule)] if state.get(name) is not None}
            for name, values in parts.items():
                flat = values.detach().reshape(-1)
                found[f"{i}/{name}"] = reading.gather([flat], [torch.arange(len(flat), device=flat.device)])
                self.shapes[i][name] = tuple(values.shape)
        return found

    def _summands(self, optimizer: Any, gradients: list[Any], indices: list[Any]) -> Buffers:
        """How many sparse entries make up each coordinate's gradient and state, and the sum of their magnitudes; one for dense."""
        counts = [torch.ones(len(index)) for index in indices]
        reaches = [torch.zeros(len(index), dtype=torch.float64) for index in indices]
        for i, gradient in enumerate(gradients):
            if gradient is None or gradient.layout == torch.strided:
                continue
            counts[i].zero_()
            states = [reading.state_of(optimizer, [self.tensors[i]], name)[0] for name in self.state_names]
            for entries in (gradient, *(state for state in states if state is not None and state.layout != torch.strided)):
                count, reach = sparse.summands_at(entries, indices[i])
                counts[i] += count.cpu()
                reaches[i] += reach.cpu()
        every = [torch.arange(len(index)) for index in indices]
        return {"summands": reading.gather(counts, every), "reach": reading.gather(reaches, every)}

    def before(self, optimizer: Any, nonce: bytes) -> bool:
        """Capture parameters, gradients and state at the coordinates *nonce* stands for; False when an obstacle is in the way."""
        everything = list(range(len(self.tensors)))
        indices = self._indices(nonce, everything, self.counts)
        gradients = [tensor.grad for tensor in self.tensors]
        seen = [None if gradient is None else reading.local(gradient) for gradient in gradients]
        odd = [i for i, gradient in enumerate(seen) if gradient is not None and gradient.layout != torch.strided]
        self.capture = None
        if any(gradient is not None and here is None for gradient, here in zip(gradients, seen, strict=True)):
            self.obstacle = "gradients that are not reduced yet, or of a special tensor class"
            return False
        if not all(sparse.readable(seen[i]) for i in odd):
            self.obstacle = "sparse gradients of several sparse dimensions"
            return False
        compiled = within_compiled()
        if compiled and any(tensor.dtype in reading.HALF for tensor in self.tensors):
            self.obstacle = "half precision in a compiled step"
            return False
        for i in odd:
            indices[i] = sparse.touched(seen[i], indices[i])
        buffers = {"p.0": reading.gather(self.tensors, indices), "g": reading.gather(seen, indices)}
        if odd:
            buffers |= self._summands(optimizer, seen, indices)
        buffers |= self._state(optimizer, self.tensors, indices, "0")
        missing = [i for i, gradient in enumerate(gradients) if gradient is None]
        names = self.state_names
        states = [optimizer.state.get(tensor) or {} for tensor in self.tensors]
        fresh = [i for i, state in enumerate(states) if all(state.get(name) is None for name in names)]
        scale, overflowed = reading.scaling(optimizer)
        header = {
            "no_grad": missing,
            "fresh": fresh,
            # Compiled steps keep their scalars in tensors.
            "how": [(how, tensors or compiled) for how, tensors in map(reading.implementation, optimizer.param_groups)],
            "scale": scale,
            "overflowed": overflowed,
        }
        self.whole = self._choose(nonce) if self.rule in reading.WHOLE else []
        buffers |= self._captured_whole(optimizer, "0")
        self.capture = (nonce, indices, buffers, header, reading.counters(optimizer, self.tensors))
        return True

    def after(self, optimizer: Any) -> tuple[dict[str, Any], Buffers] | None:
        """Capture the same coordinates after the step; the frame to hand over, or None when nothing was captured before."""
        if self.capture is None:
            return None
        nonce, indices, buffers, header, counted = self.capture
        self.capture = None
        after = {"p.1": reading.gather(self.tensors, indices), **self._state(optimizer, self.tensors, indices, "1")}
        self.held = (list(range(len(self.tensors))), indices, dict(after))
        after |= self._captured_whole(optimizer, "1")
        header |= {
            "whole": [[i, {name: list(shape) for name, shape in self.shapes[i].items()}] for i in self.whole],
            "nonce": None if self.from_agent else nonce.hex(),
            "counters": [counted, reading.counters(optimizer, self.tensors)],
        }
        return header, {**buffers, **after}

    def hold(self, nonce: bytes) -> None:
        """Keep the values of a few secret coordinates, to be found unchanged when the next step begins."""
        picks = draw_coordinates(nonce + b"tensors", [len(self.tensors)], [min(CONTINUITY_TENSORS, len(self.tensors))])[0]
        tensors = sorted({i for i in picks if self.sizes[i]})
        indices = self._indices(nonce + b"held", tensors, [CONTINUITY_PER_TENSOR] * len(tensors))
        values = reading.gather([self.tensors[i] for i in tensors], indices)
        self.held = (tensors, indices, {"p.1": values})

    def compare_held(self, optimizer: Any) -> tuple[int, dict[str, Any] | None, Buffers]:
        """
        Read the held coordinates again: how many there were, and where their bytes differ a header and both values.

        Equal bytes need no judging, so only differences travel.
        """
        if self.held is None:
            return 0, None, {}
        tensors, indices, before = self.held
        self.held = None
        here = [self.tensors[i] for i in tensors]
        now = {"p.1": reading.gather(here, indices)}
        if len(before) > 1:
            now |= self._state(optimizer, here, indices, "1")
        total = sum(len(index) for index in indices)
        if now == before:
            return total, None, {}
        header = {"tensors": tensors, "counts": [len(index) for index in indices]}
        both = {f"{name}.held": value for name, value in before.items()} | {f"{name}.now": value for name, value in now.items()}
        return total, header, both

    def fingerprint_before(self, key: bytes) -> bytes:
        """Gradient values at the replay coordinates."""
        self._replay = self._indices(key, list(range(len(self.tensors))), share_out(self.sizes, REPLAY_COORDINATES))
        seen = [None if tensor.grad is None else reading.local(tensor.grad) for tensor in self.tensors]
        dense = [None if gradient is None or gradient.layout != torch.strided else gradient for gradient in seen]
        return reading.gather(dense, self._replay)[1]

    def fingerprint(self, loss: float | None, gradients: bytes) -> str:
        """32 hexadecimal digits over loss bits, gradients before and parameters after the step (BLAKE2b, RFC 7693)."""
        bits = struct.pack("<d", loss) if loss is not None else b""
        values = reading.gather(self.tensors, self._replay)[1]
        return hashlib.blake2b(bits + b"|" + gradients + b"|" + values, digest_size=16).hexdigest()
