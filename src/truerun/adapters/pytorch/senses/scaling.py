"""What the gradient scaler lets through: how many of its steps it left out because gradients had overflowed.

A step that the scaler leaves out has no row of its own, so it is told in a frame: at the 5th, 10th, 20th … in a row, and at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

TOLD = frozenset({5, 10, *(20 * 2**k for k in range(20))})
FUSED_LOOKS = 32


class Scaling(Sense):
    """Frames of kind `scaler`: calls of `step`, how many were skipped, how many in a row, the scale then and at the first of these."""

    name = "scaling"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.calls = self.skipped = self.in_a_row = 0
        self.before = 0
        self.scale = self.first_scale = 0.0

    def install(self) -> None:
        """Look around GradScaler.step."""
        self.wrap(torch.amp.GradScaler, "step", before=self._will_step, after=self._has_stepped)

    def _will_step(self, *_: Any, **__: Any) -> None:
        self.before = self.probe.steps

    def _has_stepped(self, scaler: Any, optimizer: Any, *_: Any, **__: Any) -> None:
        if not scaler.is_enabled():
            return
        self.calls += 1
        skipped = self.probe.steps == self.before
        if not skipped and getattr(optimizer, "_step_supports_amp_scaling", False):
            # A fused step is called and looks itself; what it was told is read while that is cheap.
            found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values()  # noqa: SLF001 (said nowhere else)
            skipped = bool(self.calls <= FUSED_LOOKS and found and sum(float(value) for value in found))
        if not skipped:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        self.scale = float(scaler.get_scale())
        if self.in_a_row == 1:
            self.first_scale = self.scale
        if self.in_a_row in TOLD:
            self._tell()

    def goodbye(self) -> None:
        """Say how often it was in all."""
        if self.skipped:
            self._tell(ended=True)

    def _tell(self, *, ended: bool = False) -> None:
        counts = {"calls": self.calls, "skipped": self.skipped, "in_a_row": self.in_a_row}
        scales = {"scale": self.scale, "first_scale": self.first_scale}
        self.probe.channel.send({"kind": "scaler", "step": self.probe.steps, "ended": ended, **counts, **scales})
