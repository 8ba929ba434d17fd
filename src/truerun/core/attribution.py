"""An attribution: which changes explain a degradation, with a probability each, or "cannot tell"."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.change import Change

SCHEMA = 1


class AttributionVerdict(enum.Enum):
    """`cannot-tell` is an honest answer: the evidence within the budget did not single anything out."""

    ATTRIBUTED = "attributed"
    CANNOT_TELL = "cannot-tell"
    NO_DEGRADATION = "no-degradation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """
    One change and the probability that it (alone or with others) made the metric worse.

    `lock_entry` is the ledger index that records it. `evidence` is a list of plain JSON facts: reruns with and without
    it, the step at which it first altered the computation, rows that disagree with their neighbours.
    """

    change: Change
    probability: float
    lock_entry: int | None = None
    effect: float | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSuspect:
    """Rows of one contributor in one convicted change: how many there are and how many look wrong."""

    data: str
    contributor: str
    rows: int
    rows_suspect: int
    interval: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSuspect:
    """One training row that looks wrong: its number in the data set as locked, and why."""

    data: str
    row: int
    contributor: str | None
    reason: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """
    The answer of `truerun trace`, in the shape of its JSON contract.

    `metric` is the declared metric it was judged by; `onset` says where the degradation shows first:
    `{"entry": index of the first lock that contains a convicted change, "step": first step whose computation differs}`.
    """

    verdict: AttributionVerdict
    run: str
    against: str
    metric: Mapping[str, Any] | None = None
    onset: Mapping[str, Any] | None = None
    suspects: tuple[Suspect, ...] = ()
    sources: tuple[SourceSuspect, ...] = ()
    rows: tuple[RowSuspect, ...] = ()
    runs_used: int = 0
    replay_steps_used: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)
    schema: int = SCHEMA
