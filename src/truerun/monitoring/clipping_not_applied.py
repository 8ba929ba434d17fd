"""Clipping that does not do what it says: gradients above the limit reach the step.

A declared limit (`[training] clip_norm`, `clip_value`) binds the first optimizer at every step that is measured. Without one the
program's own calls are taken at their word: what was clipped to 1 has a norm of at most 1 (and 0.1 %; 2 % in half precision)
when the step begins. Calls that come after the step, or before a scaler has divided its factor out, are told by their order.
Cannot see clipping by other code than torch's, unless a limit is declared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(
    id="clipping-not-applied",
    summary="gradients above the clipping limit reached the optimizer",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
)
TIMES = 3
HABIT_STEPS = 8
TOLERANCE, LOOSE_TOLERANCE = 1e-3, 2e-2
NAMES = {"norm": "clip_grad_norm_", "value": "clip_grad_value_"}
KEYS = {"norm": "clip_norm", "value": "clip_value"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One call of a clipping function that a step follows: norms before (None: not known) and now, of `tensors` of `of` tensors."""

    what: str
    limit: float
    before: float | None
    now: float
    tensors: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSeen:
    """One step: the calls that it follows and those without effect; the norms where they were measured."""

    step: int
    rank: int
    kind: str
    clips: int = 0
    late: int = 0
    scale: float | None = None
    norm: float | None = None
    largest: float | None = None
    loose: bool = False
    measured: tuple[Clip, ...] = ()

    @property
    def allowed(self) -> float:
        """What may be added to a limit, as a factor."""
        return 1 + (LOOSE_TOLERANCE if self.loose else TOLERANCE)


def _finding(seen: ClipSeen, term: str, message: str, remedy: str, **more: Any) -> Finding:
    evidence = {"term": term, **more.pop("evidence", {})}
    place = Location(step=seen.step, rank=seen.rank)
    return RULE.finding(
        Subject(kind="run", name=seen.kind, key=term), message, evidence=evidence, location=place, remedy=remedy, **more
    )


def check_calls(seen: ClipSeen) -> tuple[Finding, ...]:
    """Findings for calls whose limit the gradients do not keep when the step begins: without effect, or changed since."""
    found = []
    for clip in seen.measured:
        if not clip.now > clip.limit * seen.allowed:
            continue
        name = NAMES[clip.what]
        idle = clip.before is not None and abs(clip.now - clip.before) <= TOLERANCE * clip.before
        what = "clipping had no effect" if idle else "something changed them after clipping"
        found.append(
            _finding(
                seen,
                "call",
                f"At step {seen.step} {name} was called with {clip.limit:g}, and the {clip.tensors} gradients that it was given "
                f"have {'a norm' if clip.what == 'norm' else 'values'} of {clip.now:.6g} when the step begins: {what}.",
                "look at what runs between clipping and the step, and at what clips",
                severity=Severity.ERROR if idle else Severity.WARNING,
                confidence=Confidence.CERTAIN if idle else Confidence.HIGH,
                evidence={"limit": clip.limit, "norm": clip.now, "before": clip.before},
            )
        )
    return tuple(found)


def check_declared(seen: ClipSeen, declared: Mapping[str, float], origins: Mapping[str, str]) -> tuple[Finding, ...]:
    """A finding where a measured step was given gradients above a declared limit; *declared* by `norm` and `value`."""
    found = []
    for what, limit in declared.items():
        now = seen.norm if what == "norm" else seen.largest
        if now is None or not math.isfinite(now) or now <= limit * seen.allowed:
            continue
        # Groups that are each clipped to the limit keep to it, though their norm together may be above.
        parts = [clip for clip in seen.measured if clip.what == what and max(clip.limit, clip.now) <= limit * seen.allowed]
        if parts and sum(clip.tensors for clip in parts) == parts[0].of:
            continue
        share = f"; {sum(clip.tensors for clip in parts)} of {parts[0].of} tensors were clipped" if parts else ""
        found.append(
            _finding(
                seen,
                KEYS[what],
                f"At step {seen.step} the gradients have {'a norm' if what == 'norm' else 'values'} of {now:.6g}; "
                f"at most {limit:g} is {origins.get(KEYS[what], 'declared')}{share}.",
                f"call torch.nn.utils.{NAMES[what]} on all parameters between backward() and step()",
                evidence={"declared": limit, "observed": now, "clipped": sum(clip.tensors for clip in parts)},
            )
        )
    return tuple(found)


@dataclass(slots=True, eq=False)
class ClipHabit:
    """Follows the calls before each step of one optimizer of one process."""

    steps: int = 0
    clipped: int = 0
    without: int = 0
    late: int = 0
    scaled: int = 0
    call: tuple[str, float, float] | None = None
    earlier: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def check(self, seen: ClipSeen) -> tuple[Finding, ...]:
        """Findings about the order of calls: after the step, before unscaling, not any more, not as in the approved run."""
        self.steps += 1
        self.late = self.late + 1 if seen.late and not seen.clips else 0
        self.scaled = self.scaled + 1 if seen.scale is not None and seen.scale != 1 else 0
        self.clipped += seen.clips > 0
        self.without = 0 if seen.clips else self.without + 1
        if seen.measured:
            clip = seen.measured[0]
            self.call = (clip.what, clip.limit, clip.tensors / clip.of)
        return self._order(seen) + self._stopped(seen) + self._other(seen)

    def _order(self, seen: ClipSeen) -> tuple[Finding, ...]:
        if self.late == TIMES:
            text = (
                f"Gradients are clipped after the step and not before it (steps {seen.step - TIMES + 1} to {seen.step}): "
                "what is clipped has been used already and is cleared next."
            )
            return (_finding(seen, "late", text, "move clipping between backward() and step()", confidence=Confidence.HIGH),)
        if self.scaled == TIMES:
            text = (
                f"Gradients are clipped while they are still multiplied by the scaler's {seen.scale:g} "
                f"(step {seen.step} and the {TIMES - 1} before): the limit is that many times smaller than it says."
            )
            evidence = {"scale": seen.scale}
            remedy = "call scaler.unscale_(optimizer) before clipping"
            return (_finding(seen, "scaled", text, remedy, confidence=Confidence.HIGH, evidence=evidence),)
        return ()

    def _stopped(self, seen: ClipSeen) -> tuple[Finding, ...]:
        first = self.steps - TIMES
        if self.without != TIMES or self.late or first < HABIT_STEPS or self.clipped < first:
            return ()
        text = f"Gradients were clipped before each of {first} steps and are not any more since step {seen.step - TIMES + 1}."
        remedy = "look for a condition around clipping; if it is meant, it is a change to declare"
        evidence = {"clipped": self.clipped}
        weak = {"severity": Severity.WARNING, "confidence": Confidence.HIGH}
        return (_finding(seen, "stopped", text, remedy, evidence=evidence, **weak),)

    def _other(self, seen: ClipSeen) -> tuple[Finding, ...]:
        was = self.earlier
        if self.steps != TIMES or not was:
            return ()
        now = self.call
        if now is not None and now[0] == was["what"] and _same(now[1], was["limit"]) and now[2] >= was["share"] - TOLERANCE:
            return ()
        if now is None and self.clipped:  # called, and not measured yet
            return ()
        shown = f"{NAMES[now[0]]} with {now[1]:g} on {now[2]:.0%} of the tensors" if now else "not at all"
        text = (
            f"Gradients are clipped {shown}; in {self.origin} it was {NAMES[was['what']]} with {was['limit']:g} "
            f"on {was['share']:.0%} of them."
        )
        evidence = {"before": dict(was), "now": list(now) if now else None}
        remedy = "restore the call, or declare [training] clip_norm"
        weak = {"severity": Severity.WARNING, "confidence": Confidence.MEDIUM}
        return (_finding(seen, "earlier", text, remedy, evidence=evidence, **weak),)

    def learned(self) -> dict[str, Any]:
        """What a later run is compared with: nothing unless every step was clipped alike."""
        if self.call is None or self.clipped < max(TIMES, self.steps - 1):
            return {}
        return dict(zip(("what", "limit", "share"), self.call, strict=True))


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9)
