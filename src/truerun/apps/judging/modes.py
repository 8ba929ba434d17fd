"""What the senses of modes handed over, for the rules training-mode and evaluation-mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.monitoring.training_mode import ModePattern


class Modes(Judge):
    """Follows the modules of each optimizer of each process."""

    name = "modes"
    kinds = frozenset({"modules"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.patterns: dict[tuple[int, int], ModePattern] = {}

    def take(self, known: Process, frame: Frame) -> Findings:
        """The names of an optimizer's modules."""
        number, reference = int(frame.header["optimizer"]), self.request.reference
        self.patterns[known.pid, number] = ModePattern(
            [str(name) for name in frame.header["names"]],
            [str(kind) for kind in frame.header["kinds"]],
            earlier=reference.learned.get(self.name, {}).get(str(number), {}),
            origin=reference.learned_from,
            same_program=reference.same_program,
        )
        return ()

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """The modules in evaluation mode, where they changed."""
        pattern = self.patterns.get((known.pid, record.optimizer))
        if pattern is None:
            return ()
        changed = [int(i) for i in extra["evaluating"]] if "evaluating" in extra else None
        return pattern.check(changed, [int(i) for i in extra.get("untouched", ())], record.step, record.rank)

    def learned(self) -> Mapping[str, Any]:
        """The modes of each optimizer's model of the first process."""
        first = next(iter(self.patterns), (0, 0))[0]
        return {
            str(number): pattern.learned() for (pid, number), pattern in self.patterns.items() if pid == first and pattern.steps
        }
