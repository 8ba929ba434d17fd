"""What the sense of initial values handed over, with the names of the tensors, for the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord
from truerun.monitoring.initialised_again import check_many_times, check_while_training


class Initialising(Judge):
    """Where edits between steps are allowed, new initial values are too."""

    name = "initialising"
    kinds = frozenset({"initialised"})

    def take(self, known: Process, frame: Frame) -> Findings:
        """The tensors that were initialised most often, when an optimizer begins."""
        seen = known.optimizers[int(frame.header["optimizer"])].seen
        counts = {seen.names[int(index)]: int(count) for index, count in frame.header["counts"]}
        return check_many_times(seen.kind, counts, known.rank or 0)

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """Tensors that were initialised while this optimizer trains them."""
        if not extra or self.request.monitoring.between_steps == "allowed":
            return ()
        seen = known.optimizers[record.optimizer].seen
        return check_while_training(seen.kind, [seen.names[int(index)] for index in extra["again"]], record.step, record.rank)
