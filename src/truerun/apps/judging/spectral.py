"""What the sense of spectral norms handed over, for the rule evaluated-untrained."""

from __future__ import annotations

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.monitoring.evaluated_untrained import check_estimated


class Spectral(Judge):
    """Passes on the layer."""

    name = "spectral"
    kinds = frozenset({"unestimated"})

    def take(self, known: Process, frame: Frame) -> Findings:
        """A layer whose first pass was in evaluation mode."""
        step, rank = known.place(int(frame.header["step"]))
        return check_estimated(str(frame.header["layer"])[:200], step, rank)
