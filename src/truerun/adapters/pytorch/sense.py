"""One thing the probe looks at besides the update itself: batches, gradients, modes, time, ranks. The probe carries them all.

A sense captures and hands over; it judges nothing. It writes to no tensor, draws from no generator of the program, keeps no
tensor alive past the step, and adds no collective. A fault of a sense ends that sense, is reported, and reaches nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from truerun.adapters.pytorch import wrapping
from truerun.adapters.pytorch.wrapping import Look

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Watched


class Sense:
    """
    The base: looks at nothing. Every method but `install` is called while training runs, inside the probe's time keeping.

    `name` is unique and names the sense in `fault` frames. What travels with each step goes into `self.extra` (small
    JSON, emptied once sent, together under `name` in the step's row); anything else is a frame of its own:
    `self.probe.channel.send({"kind": …})`.
    """

    name = ""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.off = False
        self.extra: dict[str, Any] = {}

    def install(self) -> None:
        """Wrap what has to be seen. Called once, right after torch was imported and before the program goes on."""

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """*optimizer* is about to take its first step, or holds other tensors than before."""

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """The gradients are complete and the step has not begun. With `step(closure)`: after each call of the closure."""

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """The step is over; `self.probe.steps` counts it already."""

    def before_backward(self, tensors: Any) -> None:
        """`torch.autograd.backward` is about to run on *tensors* (a tensor or a sequence of them)."""

    def after_backward(self, tensors: Any) -> None:
        """`torch.autograd.backward` has run on *tensors*."""

    def goodbye(self) -> None:
        """The process ends in the ordinary way; the line is still open."""

    # For subclasses.

    def tell(self, seen: Look, args: Any, kwargs: Any) -> None:
        """Call *seen* under the probe's guard: timed, and its errors end this sense alone."""
        self.probe.guard(self, seen, args, kwargs)

    def wrap(self, owner: Any, name: str, *, before: Look | None = None, after: Look | None = None) -> None:
        """Look before and after the function *name* of *owner*, with its arguments."""
        self.probe.replace(owner, name, lambda original: wrapping.calling(original, self, before=before, after=after))

    def wrap_result(self, owner: Any, name: str, look: Look) -> None:
        """Look at what the function *name* of *owner* returned: look(result, *arguments)."""
        self.probe.replace(owner, name, lambda original: wrapping.returning(original, self, look))
