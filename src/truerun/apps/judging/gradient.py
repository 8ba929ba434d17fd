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
from truerun.monitoring.gradient_drift import GradientSizes, check_sizes, check_zero
from truerun.monitoring.gradient_mismatch import Edit, GradientSeen, Pass, Usual, alterations, check_gradient, check_untold
from truerun.monitoring.loss_mismatch import STABLE as STABLE_FACTOR
from truerun.monitoring.loss_mismatch import LossCall, LossSeen, check_against, check_declared
from truerun.monitoring.observation import OptimizerSeen

UNTOLD_LOOKS, WITHOUT_CLOSER_LOOK = 3, 2
MAX_TEXT = 300
MAX_LOSSES, MAX_FACTORS = 8, 32


class GradientJudge(Judge):
    """One for the run; looks of all processes and optimizers come here."""

    name = "gradient"
    kinds = frozenset({"gradient"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.usual = usual_of(request)
        self.altered: set[str] = set()
        self.looks = 0
        self.known: Mapping[str, Any] = request.reference.learned.get("gradient", {})
        self._losses: list[list[Any]] = []
        self._factors: list[float] = []
        self._sizes: dict[tuple[int, int], GradientSizes] = {}
        self._named: set[tuple[int, int]] = set()
        self._reasons: dict[tuple[int, int], Counter[str]] = {}
        self._optimizers: dict[tuple[int, int], OptimizerSeen] = {}

    def take(self, known: Process, frame: Frame) -> Findings:
        """One look."""
        optimizer = known.optimizers[int(frame.header["optimizer"])].seen
        seen = parse_look(frame, optimizer, known.place(int(frame.header["step"]))[0])
        key = (optimizer.rank, optimizer.number)
        self._optimizers[key] = optimizer
        found = self._loss(parse_loss(frame, seen)) + self._size(key, seen)
        self._reasons.setdefault(key, Counter())[seen.why or ""] += 1
        if seen.why is not None:
            return found
        self.looks += 1
        altered = alterations(seen)
        self.altered |= altered
        if "backward" in altered and len(seen.passes) <= WITHOUT_CLOSER_LOOK and key in self._named:
            return found  # the same again, without the tensor's name that was found then
        self._named |= {key} if "backward" in altered else set()
        return found + check_gradient(seen, self.usual)

    def _loss(self, seen: LossSeen) -> Findings:
        values, reference = self.request.reference.values, self.request.reference
        declared, smoothing = values.get("loss"), values.get("label_smoothing", 0.0)
        signature = [call.signature() for call in seen.calls]
        if seen.rank == 0 and signature and signature not in self._losses and len(self._losses) < MAX_LOSSES:
            self._losses.append(signature)
        if seen.rank == 0 and seen.factor is not None:
            self._factors = [*self._factors, seen.factor][-MAX_FACTORS:]
        if isinstance(declared, str):
            return check_declared(seen, declared, float(smoothing) if isinstance(smoothing, int | float) else 0.0)
        losses, factor = self.known.get("losses", []), self.known.get("factor")
        return check_against(seen, losses, factor, reference.learned_from, same_program=reference.same_program)

    def _size(self, key: tuple[int, int], seen: GradientSeen) -> Findings:
        optimizer = seen.optimizer
        sizes = self._sizes.get(key)
        if sizes is None or sizes.names != optimizer.names:
            sizes = self._sizes[key] = GradientSizes(optimizer.kind, optimizer.rank, optimizer.names)
        sizes.add(seen.step, seen.norms)
        reference = self.request.reference
        return check_zero(sizes, self._known_sizes(key), reference.learned_from, same_program=reference.same_program)

    def _known_sizes(self, key: tuple[int, int]) -> Mapping[str, Any]:
        known: Mapping[str, Any] = self.known.get("sizes", {}).get(str(key[1]), {})
        return known

    def finish(self, processes: Sequence[Process]) -> Findings:
        """Say of which optimizers nothing could be told."""
        found: Findings = ()
        for key, reasons in self._reasons.items():
            if not reasons[""] and sum(reasons.values()) >= UNTOLD_LOOKS:
                found += check_untold(self._optimizers[key], [reason for reason, _ in reasons.most_common()])
        return found

    def ended(self, known: Process) -> Findings:
        """Compare the sizes of its gradients over the whole run."""
        found: Findings = ()
        for key, sizes in self._sizes.items():
            if key[0] == (known.rank or 0):
                found += check_sizes(sizes, self._known_sizes(key), self.request.reference.learned_from)
        return found

    def learned(self) -> Mapping[str, Any]:
        """How the gradients of this run came about."""
        if not self._sizes:
            return {}
        low, high = (min(self._factors), max(self._factors)) if self._factors else (0.0, 0.0)
        stable = len(self._factors) > 1 and high - low <= STABLE_FACTOR * abs(high)
        sizes = {str(number): seen.learned() for (rank, number), seen in self._sizes.items() if not rank and number < 4}
        return {
            "looks": self.looks,
            "altered": sorted(self.altered),
            "losses": self._losses,
            "factor": self._factors[-1] if stable else None,
            "sizes": sizes,
        }


def usual_of(request: WatchRequest) -> Usual:
    """What declaration and approved run say of gradients."""
    reference = request.reference
    declared, learned = reference.values.get("gradient"), reference.learned.get("gradient")
    return Usual(
        declared=declared if declared in ("exact", "altered") else None,
        approved=frozenset(map(str, learned.get("altered", ()))) if learned and learned.get("looks") else None,
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


def parse_loss(frame: Frame, seen: GradientSeen) -> LossSeen:
    """Read the losses of a `gradient` frame; raises FormatError when numbers do not fit their shapes."""
    header = frame.header["loss"]
    calls = []
    for call in header["calls"]:
        shapes, share = call["shapes"], call["share"]
        put, target = (_shaped(frame, name, shape) for name, shape in zip(("input", "target"), shapes, strict=True))
        calls.append(
            LossCall(
                function=str(call["function"])[:40],
                options={str(name)[:40]: value for name, value in call["options"].items() if not isinstance(value, list | dict)},
                weighted=bool(call["weighted"]),
                value=None if call["value"] is None else float(call["value"]),
                short=bool(call["short"]),
                share=None if share is None else float(share),
                put=put,
                target=target,
            )
        )
    backward = header["backward"]
    return LossSeen(
        kind=seen.optimizer.kind,
        rank=seen.optimizer.rank,
        step=seen.step,
        calls=tuple(calls),
        backward=None if backward is None else float(backward),
        backwards=int(frame.header["backwards"]),
    )


def _shaped(frame: Frame, name: str, shape: Sequence[int]) -> Any:
    if name not in frame.buffers:
        return None
    kind, data = frame.buffers[name]
    return np.frombuffer(data, f"<{kind}").astype(np.float64).reshape(shape)
