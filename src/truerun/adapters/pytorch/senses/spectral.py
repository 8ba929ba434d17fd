"""Layers under torch.nn.utils.spectral_norm that are evaluated before they have been trained.

Such a layer divides its weight by an estimate that only passes in training mode improve; before the first it is a random number.
"""

from __future__ import annotations

import importlib
import weakref
from typing import TYPE_CHECKING, Any

from torch import nn

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe


class Spectral(Sense):
    """Frames of kind `unestimated`: how the layer is, by its shape, once for each layer."""

    name = "spectral"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.estimated: weakref.WeakSet[Any] = weakref.WeakSet()

    def install(self) -> None:
        """Look at the pass of such a layer, and at the loading of its estimate."""
        functions = importlib.import_module("torch.nn.utils.spectral_norm")
        self.wrap(functions.SpectralNorm, "__call__", before=self._passes)
        self.wrap(functions.SpectralNormLoadStateDictPreHook, "__call__", before=self._loads)

    def _passes(self, norm: Any, module: nn.Module, *_: Any) -> None:
        if norm in self.estimated:
            return
        self.estimated.add(norm)
        if not module.training:
            self.probe.channel.open(self.probe.hello())
            layer = f"{type(module).__name__}({module.extra_repr()})"
            self.probe.channel.send({"kind": "unestimated", "step": self.probe.steps, "layer": layer[:200]})

    def _loads(self, hook: Any, *_: Any) -> None:
        self.estimated.add(hook.fn)
