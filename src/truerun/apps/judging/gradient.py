"""Judges what the probe's gradient sense hands over: looks at the way from the loss to the gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import WatchRequest
from truerun.core.errors import FormatError
from truerun.monitoring.gradient_mismatch import Edit, GradientSeen, Pass, Usual, alterations, check_gradient, check_untold
from truerun.monitoring.observation import OptimizerSeen

UNTOLD_LOOKS, WITHOUT_CLOSER_LOOK = 3, 2
MAX_TEXT = 300


class GradientJudge(Judge):
    """One for the run; looks of all processes and optimizers come here."""

    name = "gradient"
    kinds = frozenset({"gradient"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.usual = usual_of(request)
        self.altered: set[str] = set()
        self.looks = 0
        self._named: set[tuple[int, int]] = set()
        self._reasons: dict[tuple[int, int], Counter[str]] = {}
        self._optimizers: dict[tuple[int, int], OptimizerSeen] = {}

    def take(self, known: Process, frame: Frame) -> Findings:
        """One look."""
        optimizer = known.optimizers[int(frame.header["optimizer"])].seen
        seen = parse_look(frame, optimizer, known.place(int(frame.header["step"]))[0])
        key = (optimizer.rank, optimizer.number)
        self._optimizers[key] = optimizer
        self._reasons.setdefault(key, Counter())[seen.why or ""] += 1
        if seen.why is not None:
            return ()
        self.looks += 1
        altered = alterations(seen)
        self.altered |= altered
        if "backward" in altered and len(seen.passes) <= WITHOUT_CLOSER_LOOK and key in self._named:
            return ()  # the same again, without the tensor's name that was found then
        self._named |= {key} if "backward" in altered else set()
        return check_gradient(seen, self.usual)

    def finish(self, processes: Sequence[Process]) -> Findings:
        """Say of which optimizers nothing could be told."""
        found: Findings = ()
        for key, reasons in self._reasons.items():
            if not reasons[""] and sum(reasons.values()) >= UNTOLD_LOOKS:
                found += check_untold(self._optimizers[key], [reason for reason, _ in reasons.most_common()])
        return found

    def learned(self) -> Mapping[str, Any]:
        """How the gradients of this run came about."""
        return {"looks": self.looks, "altered": sorted(self.altered)} if self.looks else {}


def usual_of(request: WatchRequest) -> Usual:
    """What declaration and approved run say of gradients."""
    reference = request.reference
    declared, learned = reference.values.get("gradient"), reference.learned.get("gradient")
    return Usual(
        declared=declared if declared in ("exact", "altered") else None,
        approved=frozenset(map(str, learned.get("altered", ()))) if learned is not None else None,
        origin=reference.learned_from,
        same_program=reference.same_program,
    )


def parse_look(frame: Frame, optimizer: OptimizerSeen, step: int) -> GradientSeen:
    """Read a `gradient` frame; raises FormatError when it does not fit its optimizer."""
    header, total = frame.header, len(optimizer.names)
    kind, data = frame.buffers["norms"]
    norms = np.frombuffer(data, f"<{kind}")
    passes = tuple(
        Pass(tensors=tuple(map(int, tensors)), observed=float(observed), expected=float(expected), scale=float(scale))
        for tensors, observed, expected, scale in header["passes"]
    )
    edits = tuple(
        Edit(
            what=str(edit["what"])[:40],
            count=int(edit["count"]),
            listed=tuple((int(i), float(before), float(after)) for i, before, after in edit["listed"]),
        )
        for edit in header["edits"]
    )
    named = [i for part in passes for i in part.tensors] + [i for edit in edits for i, _, _ in edit.listed]
    if len(norms) != total or any(not 0 <= i < total for i in named):
        raise FormatError("a look at gradients that does not fit its optimizer", got=[len(norms), named[:8]])
    return GradientSeen(
        optimizer=optimizer,
        step=step,
        why=None if header["why"] is None else str(header["why"])[:MAX_TEXT],
        precision=float(header["precision"]),
        passes=passes,
        edits=edits,
        functions=tuple(str(name)[:MAX_TEXT] for name in header["functions"]),
        hooks=tuple(str(name)[:MAX_TEXT] for name in header["hooks"]),
        norms=tuple(map(float, norms)),
    )
