"""What the sense of cleared gradients put into the rows of steps, judged: gradients kept, gradients used again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord
from truerun.monitoring.gradients_not_cleared import check_cleared
from truerun.monitoring.stepped_twice import check_used_again


class Clearing(Judge):
    """Says what was found at a step; the sense has already waited for a second time."""

    name = "clearing"

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """What the sense found since the last step of the same optimizer."""
        if not extra:
            return ()
        seen = known.optimizers[record.optimizer].seen
        found: Findings = ()
        if extra.get("kept"):
            kept = [seen.names[int(i)] for i in extra["kept"]]
            found += check_cleared(seen.kind, kept, int(extra["looked"]), record.step, record.rank)
        if extra.get("again"):
            found += check_used_again(seen.kind, record.step, record.rank)
        return found
