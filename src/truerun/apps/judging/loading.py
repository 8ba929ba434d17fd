"""Judges what a resumed run begins with: `load-mismatch`."""

from __future__ import annotations

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.monitoring.load_mismatch import check_loaded


class LoadingJudge(Judge):
    """Names the tensors that the sense of this name found changed."""

    name = "loading"
    kinds = frozenset({"loaded"})

    def take(self, known: Process, frame: Frame) -> Findings:
        """A comparison in which something differed."""
        if self.request.monitoring.between_steps != "forbidden":
            return ()
        seen = known.optimizers[int(frame.header["optimizer"])].seen
        differ = [(seen.names[int(tensor)], str(name)[:100], int(count)) for tensor, name, count in frame.header["differ"]]
        step, rank = known.place(int(frame.header["step"]))
        return check_loaded(seen.rule or seen.kind, differ, int(frame.header["compared"]), step, rank)
