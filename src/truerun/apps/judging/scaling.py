"""What the sense of the gradient scaler told, as values for the rule."""

from __future__ import annotations

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.monitoring.scaler_skips import ScalerSeen, check_scaler


class Scaling(Judge):
    """Passes on the counts."""

    name = "scaling"
    kinds = frozenset({"scaler"})

    def take(self, known: Process, frame: Frame) -> Findings:
        """The counts so far, or at the end."""
        header = frame.header
        step, rank = known.place(int(header["step"]))
        return check_scaler(
            ScalerSeen(
                step=step,
                rank=rank,
                calls=int(header["calls"]),
                skipped=int(header["skipped"]),
                in_a_row=int(header["in_a_row"]),
                scale=float(header["scale"]),
                first_scale=float(header["first_scale"]),
                ended=bool(header["ended"]),
            )
        )
