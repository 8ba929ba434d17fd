"""In which mode the modules were that behave otherwise in training than in evaluation, when a step's gradients were computed.

Looks at dropout (with a probability above zero), batch norm and recurrent or attention layers with dropout, in the largest module that
holds the optimizer's tensors. At most calls of `backward` it reads the flags of a few; all of them when one of these has changed,
at the first calls and at every 64th.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched

MAX_MODULES = 2048
FEW, FULL_LOOKS, LATER_LOOKS = 4, 16, 64
OPTIMIZERS = 8


@dataclass(slots=True, eq=False)
class Modules:
    """The modules of one optimizer's model that have two modes, and which of them were in evaluation at the last look."""

    names: list[str]
    kinds: list[str]
    modules: list[weakref.ref[Any]]
    looks: int = 0
    few: tuple[bool, ...] = ()
    evaluating: list[int] | None = None
    told: list[int] | None = None


class Modes(Sense):
    """A frame `modules` with names; in a step's row `evaluating` (positions) where it changed, and `untouched` among those."""

    name = "modes"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.known: dict[int, Modules] = {}

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """Find the modules; the flags of this step's forward pass are still as they were."""
        model = watched.model()
        if model is None or watched.number in self.known or len(self.known) >= OPTIMIZERS:
            return
        found = [(name, kind, module) for name, module in nn.Module.named_modules(model) if (kind := mode_matters(module))]
        if not found or len(found) > MAX_MODULES:
            return
        names, kinds = [name[:200] for name, _, _ in found], [kind for _, kind, _ in found]
        self.known[watched.number] = modules = Modules(names, kinds, [weakref.ref(module) for _, _, module in found])
        self.probe.channel.send({"kind": "modules", "optimizer": watched.number, "names": names, "kinds": kinds})
        self._look(modules)

    def before_backward(self, tensors: Any) -> None:
        """The forward pass is over; its modules are still in the mode that it ran in."""
        for modules in self.known.values():
            few = tuple(m.training for reference in modules.modules[:FEW] if (m := reference()) is not None)
            modules.looks += 1
            if few != modules.few or modules.looks <= FULL_LOOKS or not modules.looks % LATER_LOOKS:
                modules.few = few
                self._look(modules)

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Say what was so when the last gradients before the step were computed, where it is new."""
        modules = self.known.get(watched.number)
        if modules is None or modules.evaluating is None or modules.evaluating == modules.told:
            return
        modules.told = modules.evaluating
        self.extra["evaluating"] = modules.told
        self.extra["untouched"] = [i for i in modules.told if _untouched(modules.modules[i]())]

    def _look(self, modules: Modules) -> None:
        flags = [reference() for reference in modules.modules]
        modules.evaluating = [i for i, module in enumerate(flags) if module is not None and not module.training]


def mode_matters(module: Any) -> str | None:
    """`dropout` or `norm` for a module that computes something else in training than in evaluation, None for the others."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 (the base of all of them has no other name)
        return "norm" if module.track_running_stats else None
    if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 (as above)
        return "dropout" if module.p > 0 else None
    if isinstance(module, nn.MultiheadAttention):
        return "dropout" if module.dropout > 0 else None
    if isinstance(module, nn.RNNBase):
        return "dropout" if module.dropout > 0 and module.num_layers > 1 else None
    return None


def _untouched(module: Any) -> bool:
    """Whether *module* normalises by the statistics that it was made with: no batch has ever been counted in."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None or module.running_var is None:  # noqa: SLF001
        return False
    with torch.no_grad():
        return not bool(module.running_mean.any()) and bool((module.running_var == 1).all())
