"""How often each parameter was initialised by `torch.nn.init`, and whether one was after it had begun to train.

Notes the memory that a parameter has, so that `init.normal_(layer.weight.data)` counts for `layer.weight`. Not seen: initial values
that are written without torch.nn.init. Costs about a microsecond a call.
"""

from __future__ import annotations

import importlib
import weakref
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

FUNCTIONS = ("uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_")
MORE = ("xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_")
MAX_TENSORS = 100_000
SHOWN = 64


class Initialising(Sense):
    """
    A frame `initialised` at an optimizer's first step: the tensors that were initialised most often. Later, `again` in the row of
    the step that goes on with tensors initialised since. A new optimizer for them, as for the next fold, begins anew.
    """

    name = "initialising"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.counts: dict[int, tuple[Any, int]] = {}
        self.training: dict[int, tuple[Any, int, int]] = {}
        self.again: dict[int, list[int]] = {}

    def install(self) -> None:
        """Look at each function of torch.nn.init. They call one another by other names, so each call counts once."""
        functions = importlib.import_module("torch.nn.init")
        for name in (*FUNCTIONS, *MORE):
            self.wrap(functions, name, before=self._initialises)

    def _initialises(self, tensor: Any = None, *_: Any, **__: Any) -> None:
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            return
        place = tensor.data_ptr()
        known, number, index = self.training.get(place, (None, 0, 0))
        if _holds(known, place):
            if index not in self.again.setdefault(number, []):
                self.again[number].append(index)
            return
        known, count = self.counts.get(place, (None, 0))
        if _holds(known, place):
            self.counts[place] = (known, count + 1)
        elif isinstance(tensor, torch.nn.Parameter) and len(self.counts) < MAX_TENSORS:
            # Memory that was given back and taken anew belongs to somebody else.
            self.counts[place] = (weakref.ref(tensor), 1)

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """The tensors of *optimizer* train from here on."""
        self.training = {place: mark for place, mark in self.training.items() if mark[1] != watched.number}
        counts = []
        for index, tensor in enumerate(watched.tensors):
            if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not tensor.numel() or tensor.is_meta:
                continue
            place = tensor.data_ptr()
            self.training[place] = (weakref.ref(tensor), watched.number, index)
            known, count = self.counts.pop(place, (None, 0))
            if known is not None and known() is tensor:
                counts.append((count, index))
        if counts:
            most = [[index, count] for count, index in sorted(counts, reverse=True)[:SHOWN]]
            self.probe.channel.send(
                {"kind": "initialised", "step": self.probe.steps, "optimizer": watched.number, "counts": most}
            )

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """What was initialised since the last step of *optimizer* goes on being trained by it."""
        if self.again:
            again = self.again.pop(watched.number, None)
            if again:
                self.extra["again"] = again[:SHOWN]


def _holds(reference: Any, place: int) -> bool:
    """Whether the tensor behind *reference* lives and has its memory at *place*."""
    tensor = reference() if reference is not None else None
    return tensor is not None and tensor.data_ptr() == place
