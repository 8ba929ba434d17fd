"""Duplicate batches: two ranks that were given the same batch compute the same gradient before it is averaged.

An option (`[monitoring] duplicate_batches`), because it changes which batches some ranks train on. Exact: same rows, same
input tensors, same parameters, no random numbers drawn in between. With three ranks or more, audits of changing pairs leave
one rank that is in all those that fail (if it is one that is wrong); with two, nothing tells which. Cannot see ranks that alter their
gradients in the same way, nor a rank that does so only while no audit runs, if it can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.observation import Mask, Numbers

RULE = Rule(
    id="rank-gradient-differs",
    summary="two ranks that were given the same batch computed different gradients",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    atlas="AML.T0018",
)
ROUNDING = 1e-4
MAX_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What one rank made of a batch that another got too.

    `rows` and `inputs` stand for the batch, `parameters` (tensors,) are checksums of the parameters that it met; `random`
    says that random numbers were drawn between batch and gradient. `sums` (tensors,) are checksums of the gradient before
    it was averaged, -1 where there was none; `values` (tensors, n) some of its values.
    """

    rank: int
    step: int
    rows: str
    inputs: tuple[int, ...]
    random: bool
    names: tuple[str, ...]
    parameters: Numbers
    sums: Numbers
    values: Numbers


@dataclass(slots=True, eq=False)
class AuditWatch:
    """Follows the audits of one launch. `agreed` counts those that passed, `unclear` those that could not tell."""

    agreed: int = 0
    unclear: int = 0
    _failed: list[frozenset[int]] = field(default_factory=list)
    _told: set[frozenset[int] | int | str] = field(default_factory=set)

    def check(self, one: Answer, other: Answer) -> tuple[Finding, ...]:
        """A finding when *one* and *other* should be the same and are not; a note, once, when they need not be."""
        same = (one.rows, one.inputs, one.names) == (other.rows, other.inputs, other.names)
        if not same or not np.array_equal(one.parameters, other.parameters) or one.random or other.random:
            self.unclear += 1
            return self._unclear(one, other) if one.random or other.random else ()
        wrong: Mask = (one.sums != other.sums) | (one.values != other.values).any(1) & ~np.isnan(one.values).any(1)
        pair = frozenset((one.rank, other.rank))
        if not wrong.any():
            self.agreed += 1
            return ()
        self._failed.append(pair)
        alone = self._alone()
        key = alone if alone is not None else pair
        if key in self._told or (alone is None and any(pair & told for told in self._told if isinstance(told, frozenset))):
            return ()
        self._told.add(key)
        return (_finding(one, other, wrong, alone),)

    def _alone(self) -> int | None:
        """The one rank that is in every failed audit, with two partners or more."""
        common = frozenset.intersection(*self._failed)
        return next(iter(common)) if len(common) == 1 else None

    def _unclear(self, one: Answer, other: Answer) -> tuple[Finding, ...]:
        if "random" in self._told:
            return ()
        self._told.add("random")
        return (
            RULE.finding(
                Subject(kind="run", name="duplicate batches"),
                f"Could not tell whether ranks {one.rank} and {other.rank} compute the same gradient of the same batch at step "
                f"{one.step}: random numbers are drawn in between, as dropout does.",
                evidence={"step": one.step},
                severity=Severity.NOTE,
                remedy="leave out [monitoring] duplicate_batches: in this program it cannot tell anything",
            ),
        )


def _finding(one: Answer, other: Answer, wrong: Mask, alone: int | None) -> Finding:
    names = [one.names[i] for i in np.flatnonzero(wrong)]
    listed = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
    scale = np.maximum(np.abs(one.values), np.abs(other.values)).max() if one.values.size else 0.0
    apart = float(np.abs(one.values - other.values).max()) if one.values.size else 0.0
    rounding = bool(0 < apart <= ROUNDING * scale)
    who = (
        f"Rank {alone} is in every audit that failed, whatever the other rank."
        if alone is not None
        else "Nothing seen so far tells which of the two is wrong."
    )
    i, j = np.unravel_index(int(np.abs(one.values - other.values).argmax()), one.values.shape)
    return RULE.finding(
        Subject(kind="run", name="local gradients", key=names[0]),
        f"At step {one.step} ranks {one.rank} and {other.rank} were given the same batch and computed different gradients of {listed} "
        f"({len(names)} of {len(wrong)} tensors): {one.values[i, j]:.6g} on rank {one.rank}, {other.values[i, j]:.6g} on rank "
        f"{other.rank}. {who}",
        evidence={"ranks": [one.rank, other.rank], "tensors": names[:64], "departed": [] if alone is None else [alone]},
        location=Location(step=one.step, rank=alone),
        severity=Severity.WARNING if rounding else Severity.ERROR,
        confidence=Confidence.MEDIUM if rounding else Confidence.CERTAIN,
        remedy="take the rank's machine out, or look at what its code does to loss and gradients that the others' does not",
    )
