"""A run: one execution, watched. Its result as the JSON contract of `truerun run --output FILE`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from truerun.core.digest import Digest
from truerun.core.finding import Finding

SCHEMA = 1


class Mode(enum.Enum):
    """`observe` reports and never stops a run; `enforce` holds what is not approved and fails on findings."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class Verdict(enum.Enum):
    """What a run came to. "could not tell" is an answer: too little was seen to pass or fail it."""

    PASS = "pass"  # noqa: S105 (a verdict, not a password)
    FAIL = "fail"
    HELD = "held"
    COULD_NOT_TELL = "could-not-tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One value of one metric: `step` counts optimizer steps of rank 0 so far."""

    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """
    What watching cost: seconds of the training process's time, and their share of the run's wall time.

    `by` is the part of each sense, in seconds; the rest went to the update. `looks` is what was had for it, in numbers:
    full checks of updates (`update`) at so many `coordinates`, steps (`continuity`) at which so many values (`held`, in
    all) were found as the step before left them, and messages of each sense.
    """

    fraction: float = 0.0
    seconds: float = 0.0
    by: Mapping[str, float] = field(default_factory=dict)
    looks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSpan:
    """The entries a run wrote, and the tree head after the last; None where nothing could be written."""

    first: int | None = None
    last: int | None = None
    tree_head: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run. `metrics` holds each metric's last value; `command_exit` is None for a run that never started."""

    run: str
    lock: Digest | None
    verdict: Verdict
    mode: Mode
    findings: tuple[Finding, ...] = ()
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    command_exit: int | None = None
    overhead: Overhead = Overhead()
    ledger: LedgerSpan = LedgerSpan()
    schema: int = SCHEMA
