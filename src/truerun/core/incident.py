"""An incident: findings judged to have harmed a run, what it cost, and the protocol gap that let it through."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.attribution import Attribution
from truerun.core.finding import Finding


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
class Incident:
    """Everything a report shows."""

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
