"""An incident: findings judged to have harmed a run, what it cost, and the protocol gap that let it through."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.attribution import Attribution
from truerun.core.finding import Finding
from truerun.core.run import MetricPoint

SCHEMA = 1


class Control(enum.Enum):
    """How the rule that should have stopped it fared (post-incident review)."""

    ABSENT = "absent"
    BYPASSED = "bypassed"
    PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One protocol rule that did not stop it, how, the entry that shows it, and the setting that would close it."""

    rule: str
    control: Control
    explanation: str
    setting: str
    entry: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What was lost: optimizer steps and wall hours spent on tainted runs, reruns used to find out, tainted checkpoints."""

    steps: int = 0
    hours: float = 0.0
    reruns: int = 0
    rerun_hours: float = 0.0
    runs: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One line of the story: ledger index, time (RFC 3339, as its author claims it), actor id, and what happened."""

    entry: int
    at: str
    actor: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """
    One series of the run beside the same series of its reference.

    `declared` says that it is a metric of the declaration, judged by `goal` and `tolerance`; `onset` is the optimizer step
    at which the run was first seen to compute something else than the reference, None when that is not known.
    """

    name: str
    goal: str
    run: tuple[MetricPoint, ...]
    reference: tuple[MetricPoint, ...] = ()
    tolerance: float | None = None
    declared: bool = False
    onset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What became of one class of the outputs: recall (share of its `count` examples that were recognised) in the run, with a
    95 % interval `low` to `high`, and in the reference (None where it has no outputs).
    """

    name: str
    count: int
    recall: float
    low: float
    high: float
    reference: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Somebody who can say more: id, name and role as recorded, and what each of their entries was. Never who is at fault."""

    id: str
    name: str | None
    role: str | None
    mentor: str | None
    can_tell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """How far the way back has been gone: the entry and lock of the recovery, and the rerun that shows the metric."""

    entry: int
    lock: str
    removed: tuple[str, ...]
    run: str | None = None
    value: float | None = None
    within_tolerance: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What to verify the history against, offline: the ledger's name, size, root hash (base64) and log key."""

    origin: str
    size: int
    root: str
    log_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Everything a report shows. `headline` says it in one line, `summary` in three sentences."""

    project: str
    run: str
    against: str | None
    summary: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    attribution: Attribution | None = None
    impact: Impact = Impact()
    gaps: tuple[Gap, ...] = ()
    timeline: tuple[TimelineEvent, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    voices: tuple[Voice, ...] = ()
    recovered: Recovered | None = None
    anchor: Anchor | None = None
    unknowns: tuple[str, ...] = ()
    headline: str = ""
    schema: int = SCHEMA
