"""What the sense of evaluations handed over, for the rule evaluation-mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import WatchRequest
from truerun.monitoring.evaluation_mode import Active, Evaluated, check_evaluation


class Evaluating(Judge):
    """Learns whether a run's evaluations were without dropout, so that a later one of the same program has to be too."""

    name = "evaluating"
    kinds = frozenset({"evaluated"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.clean: bool | None = None

    def take(self, known: Process, frame: Frame) -> Findings:
        """What was at work since the last `backward`."""
        step, rank = known.place(int(frame.header["step"]))
        active = tuple(
            Active(module=str(name), what=str(what), path=str(path), line=int(line), training=bool(training), passes=int(calls))
            for name, what, path, line, training, calls in frame.header["active"]
        )
        reference = self.request.reference
        declared = reference.values.get("dropout_in_evaluation")
        found: Findings = ()
        if declared is not True:
            earlier = bool(reference.same_program and reference.learned.get(self.name, {}).get("clean"))
            origin = (
                "it is declared not to" if declared is False else f"it did not in {reference.learned_from}" if earlier else ""
            )
            seen = Evaluated(step=step, rank=rank, active=active)
            found = check_evaluation(seen, certain=declared is False or earlier, origin=origin)
        self.clean = self.clean is not False and not found
        return found

    def learned(self) -> Mapping[str, Any]:
        """Whether evaluations were seen and none had dropout at work."""
        return {"clean": True} if self.clean else {}
