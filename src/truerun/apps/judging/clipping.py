"""What the sense of clipping put into the rows of steps, as values for the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.monitoring.clipping_not_applied import KEYS, Clip, ClipHabit, ClipSeen, check_calls, check_declared


class Clipping(Judge):
    """Keeps a habit for each optimizer of each process; what rank 0 showed is learned."""

    name = "clipping"

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        values = request.reference.values
        self.declared = {what: float(values[key]) for what, key in KEYS.items() if isinstance(values.get(key), int | float)}
        self.habits: dict[tuple[int, int], ClipHabit] = {}

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """The order of calls at every step, and the norms where they were measured."""
        seen = _parse(record, known.optimizers[record.optimizer].seen.kind, extra)
        place = (known.pid, record.optimizer)
        habit = self.habits.get(place)
        if habit is None:
            reference = self.request.reference
            earlier = {} if self.declared else reference.learned.get(self.name, {}).get(str(record.optimizer), {})
            habit = self.habits[place] = ClipHabit(earlier=earlier, origin=reference.learned_from)
        found = habit.check(seen) + check_calls(seen)
        # The declaration speaks of the first optimizer.
        return found + (check_declared(seen, self.declared, self.request.reference.origins) if record.optimizer == 0 else ())

    def learned(self) -> Mapping[str, Any]:
        """The limit of each optimizer of rank 0 that clipped all its steps alike."""
        first = next(iter(self.habits), (0, 0))[0]
        shown = {str(number): habit.learned() for (pid, number), habit in self.habits.items() if pid == first}
        return {number: found for number, found in shown.items() if found}


def _parse(record: StepRecord, kind: str, extra: Mapping[str, Any]) -> ClipSeen:
    measured = tuple(
        Clip(
            what=str(what),
            limit=float(limit),
            before=None if before is None else float(before),
            now=float(now),
            tensors=int(tensors),
            of=int(of),
        )
        for what, limit, before, now, tensors, of in extra.get("measured", ())
    )
    return ClipSeen(
        step=record.step,
        rank=record.rank,
        kind=kind,
        clips=int(extra.get("clips", 0)),
        late=int(extra.get("late", 0)),
        scale=_number(extra, "scale"),
        norm=_number(extra, "norm"),
        largest=_number(extra, "largest"),
        loose=bool(extra.get("loose")),
        measured=measured,
    )


def _number(extra: Mapping[str, Any], name: str) -> float | None:
    return float(extra[name]) if name in extra else None
