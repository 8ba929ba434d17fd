"""Copies: ranks that train one model together hold the same gradients, parameters and optimizer state, bit for bit.

Looks at checksums of whole tensors and at a few values, both at steps and coordinates drawn in secret. Certain where
DistributedDataParallel or a replicated DTensor promises copies; where nothing does, only ranks that were seen to keep the
same are held to it, as a warning unless the approved run did so too. Legal: gradients kept back inside `no_sync` by ranks
that average their parameters instead. Cannot see what one rank does to its gradient before it is averaged (the result is the
same on all ranks), nor buffers. With two ranks, one is named only where something tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.rank_look import REPLICATED, UNPROMISED, UNWRAPPED, WRAPPED, Copies, RankLook, differing, parties

RULE = Rule(
    id="ranks-differ",
    summary="ranks that train one model together no longer hold the same",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018",
)
WORDS = {"g": "gradients", "p": "parameters", "s": "optimizer state"}
AVERAGING_HOOKS = ("allreduce_hook", "fp16_compress", "bf16_compress", "powerSGD")
LOCAL_HOOK = "post_localSGD_hook"
HELD_TOGETHER, SEEN_APART, UNEVEN_STEPS = 8, 32, 2
ROUNDING = 16 * float(np.finfo(np.float32).eps)
MAX_NAMED = 4
PROMISES = {
    WRAPPED: "DistributedDataParallel keeps them the same",
    REPLICATED: "they are copies of a replicated DTensor",
}
Weight = tuple[Severity, Confidence, str]


@dataclass(slots=True, eq=False)
class CopiesWatch:
    """Follows the copies of one optimizer's tensors from look to look. `learned` is what the approved run showed, if any."""

    copies: Copies
    learned: Mapping[str, Any] = field(default_factory=dict)
    learned_from: str = ""
    same_program: bool = False
    together: int = 0
    apart: int = 0
    last_equal: int = 0
    first_step: int = 0
    began_equal: bool = True
    _reported: Severity | None = None
    _named: bool = False
    _changing: set[int] = field(default_factory=set)

    def check(self, step: int, looks: Sequence[RankLook], suspects: Mapping[int, tuple[int, str]]) -> tuple[Finding, ...]:
        """
        A finding when *looks*, one of each rank at the same *step*, are not copies.

        Repeated only when it gets worse or a rank can be named that could not be before. *suspects* are ranks of which
        something else was found: the step and that in words.
        """
        wrong = {name: differing(looks, name) for name in WORDS}
        if not self.first_step:
            self.first_step, self.began_equal = step, not differing(looks, "p0").any()
        if not any(mask.any() for mask in wrong.values()):
            self.together += 1
            self.last_equal, self.apart = step, 0
            self._changing |= {look.rank for look in looks if _changes(look)}
            return ()
        self.apart += 1
        name = next(name for name in WORDS if wrong[name].any())
        weight = self._weight(looks, name, rounding=_is_rounding(looks))
        if weight is None:
            return ()
        since = max(self.last_equal + 1, self.first_step)
        departed = self._departed(looks, name, {rank: words for rank, (at, words) in suspects.items() if at >= since})
        worse = self._reported is None or weight[0].rank > self._reported.rank
        if not worse and (self._named or len(departed[0]) != 1):
            return ()
        self._reported, self._named = weight[0], len(departed[0]) == 1
        return (self._finding(step, looks, name, weight, departed),)

    def _weight(self, looks: Sequence[RankLook], name: str, *, rounding: bool) -> Weight | None:
        """How bad it is that these ranks differ, and why they should not; None where it is legal or nothing says so."""
        averaged, waiting = all(look.averaged for look in looks), any(look.waiting for look in looks)
        why, hooks = _why(looks), {hook for look in looks for hook in look.hooks}
        if why == UNPROMISED:
            return None if averaged else self._unpromised()
        if (waiting and averaged) or all(any(LOCAL_HOOK in hook for hook in look.hooks) for look in looks):
            return None
        warning = (Severity.WARNING, Confidence.HIGH)
        if why == UNWRAPPED:
            return (*warning, "they were wrapped in DistributedDataParallel, and that wrapper is gone")
        if waiting and self.apart < SEEN_APART:
            return None
        if waiting:
            return (*warning, "the gradients were computed inside no_sync() and never averaged before the step")
        if len({look.hooks for look in looks}) == 1 and not all(
            any(known in hook for known in AVERAGING_HOOKS) for hook in hooks
        ):
            return (*warning, f"a communication hook ({', '.join(sorted(hooks))}) takes the place of the usual averaging")
        if len({look.base for look in looks}) > 1:
            return (*warning, "they took different numbers of steps inside join(), which leaves optimizer state different")
        if rounding:
            return (*warning, f"{PROMISES[why]}; they differ by rounding only, as on unequal hardware or thread counts")
        if why == REPLICATED and not self.together:
            return (*warning, PROMISES[why])
        return (Severity.ERROR, Confidence.CERTAIN, PROMISES[why])

    def _unpromised(self) -> Weight | None:
        if self.learned.get("together"):
            severity = Severity.ERROR if self.same_program else Severity.WARNING
            return severity, Confidence.HIGH, f"they were the same all through {self.learned_from}"
        if self.learned.get("apart"):
            return None
        if self.together >= HELD_TOGETHER:
            return Severity.WARNING, Confidence.HIGH, f"they were the same at {self.together} looks before"
        if self.began_equal and not self.together and self.apart >= SEEN_APART:
            return Severity.WARNING, Confidence.MEDIUM, "they began with the same parameters, and nothing averages them since"
        return None

    def _finding(self, step: int, looks: Sequence[RankLook], name: str, weight: Weight, named: tuple[list[int], str]) -> Finding:
        severity, confidence, promise = weight
        departed, how = named
        mask = differing(looks, name)
        names = [self.copies.names[i] for i in np.flatnonzero(mask)]
        listed = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
        since = f"since a step between {self.last_equal} and {step}" if self.last_equal else "since the first look"
        if self.last_equal == step - 1:
            since = f"since step {step}"
        return RULE.finding(
            Subject(kind="run", name=WORDS[name], key=names[0]),
            f"At step {step} the {WORDS[name]} of {listed} ({len(names)} of {len(mask)} tensors) are not the same on ranks "
            f"{_and([look.rank for look in looks])}, {since}, although {promise}. {how}{_numbers(looks, name)}",
            evidence={
                "term": name,
                "tensors": names[:64],
                "ranks": [look.rank for look in looks],
                "parties": parties(looks, name),
                "departed": departed,
                "last_equal": self.last_equal or None,
            },
            location=Location(step=step, rank=departed[0] if len(departed) == 1 else None),
            severity=severity,
            confidence=confidence,
            remedy=_remedy(name, _why(looks), began=bool(self.last_equal)),
        )

    def _departed(self, looks: Sequence[RankLook], name: str, suspects: Mapping[int, str]) -> tuple[list[int], str]:
        """The ranks that left the others, and how that is known, in words."""
        groups = parties(looks, name)
        if len(groups[0]) * 2 > len(looks):
            others = sorted(rank for group in groups[1:] for rank in group)
            return others, f"Rank{_plural(others)} {_and(others)} differ{'s' if len(others) == 1 else ''} from the majority."
        told = sorted(set(suspects) & {look.rank for look in looks})
        if len(told) == 1:
            return told, f"Rank {told[0]} is the one: {suspects[told[0]]}."
        if name == "g" and not differing(looks, "r").any():
            changing = {look.rank for look in looks if _changes(look)}
            keeping = {look.rank for look in looks} - changing
            alone = next((ranks for ranks in self._odd_ones(changing, keeping) if len(ranks) == 1), None)
            if alone is not None:
                (rank,) = alone
                does = "changes its" if rank in changing else "does not change its"
                return [rank], f"After the averaging they were the same; rank {rank} alone {does} gradients before the step."
        return [], "Nothing seen tells which of them departed."

    def _odd_ones(self, changing: set[int], keeping: set[int]) -> list[set[int]]:
        """Which side is odd: where all ranks used to change their gradients (clipping), the one that no longer does."""
        return (
            [keeping, changing] if changing and changing <= self._changing and keeping & self._changing else [changing, keeping]
        )


def check_steps(steps: Mapping[int, int], kind: str) -> tuple[Finding, ...]:
    """A finding when ranks that train together (rank to number of steps at their end) did not take the same number."""
    most, least = max(steps.values()), min(steps.values())
    if most - least < UNEVEN_STEPS:
        return ()
    shown = ", ".join(f"{count} on rank {rank}" for rank, count in sorted(steps.items())[:8])
    return (
        RULE.finding(
            Subject(kind="run", name=kind, key="steps"),
            f"Ranks that train one model together took different numbers of steps: {shown}.",
            evidence={"term": "steps", "steps": {str(rank): count for rank, count in list(steps.items())[:64]}},
            location=Location(step=least + 1),
            severity=Severity.WARNING,
            confidence=Confidence.HIGH,
            remedy="look for a step() that runs on some ranks only; for uneven data use join() or drop the last batches",
        ),
    )


def _why(looks: Sequence[RankLook]) -> str:
    """Why the looks should be of copies, where the ranks do not agree on it: the reason that binds, unless it ended."""
    found = {look.why for look in looks}
    return next((why for why in (UNWRAPPED, WRAPPED, REPLICATED) if why in found), UNPROMISED)


def _changes(look: RankLook) -> bool:
    """Whether the rank's gradients were not what `backward` had left when the step began."""
    return bool(np.any(look.values["r"].view(np.int64) != look.values["g"].view(np.int64)))


def _is_rounding(looks: Sequence[RankLook]) -> bool:
    """Whether all values that differ do so by no more than a few units in the last place, and some do."""
    seen = False
    for name in ("g", "p"):
        values = np.stack([look.values[name] for look in looks])
        with np.errstate(all="ignore"):
            spread = values.max(0) - values.min(0)
            if np.isnan(spread).any() or (spread > ROUNDING * np.abs(values).max(0)).any():
                return False
        seen = seen or bool((spread > 0).any())
    return seen


def _numbers(looks: Sequence[RankLook], name: str) -> str:
    """What some of the values are, where some of those looked at differ."""
    if name not in looks[0].values:
        return ""
    values = np.stack([look.values[name] for look in looks])
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(values.max(0) - values.min(0), nan=np.inf)
    if not len(spread) or not spread.max() > 0:
        return ""
    at = int(spread.argmax())
    shown = ", ".join(f"{values[i, at]:.6g} on rank {look.rank}" for i, look in enumerate(looks[:4]))
    return f" One of the values: {shown}."


def _remedy(name: str, why: str, *, began: bool) -> str:
    if name == "g" and not began and why in (WRAPPED, UNPROMISED):
        return "call the DistributedDataParallel wrapper, not the module inside it, and wrap after the last move of the model"
    if name == "g":
        return "look at what runs between backward() and step() on one rank only: clipping, hooks, conditions on the rank"
    return "look at what writes to parameters or hyperparameters on one rank only; restart from the last common checkpoint"


def _and(ranks: Sequence[int]) -> str:
    shown = [str(rank) for rank in ranks[:16]]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) + ("…" if len(ranks) > 16 else "")


def _plural(items: Sequence[int]) -> str:
    return "s" if len(items) > 1 else ""
