"""A run under watch as values: what to run, what was recorded at each step, what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truerun.core.declaration import MonitoringSection
from truerun.core.digest import Digest
from truerun.core.finding import Finding
from truerun.core.run import MetricPoint, Overhead
from truerun.monitoring.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """
    One optimizer step as it was seen.

    `step` counts optimizer steps of the process from 1; `loss` is the last scalar that `backward` was called on before
    the step, None where it was not read; `fingerprint` covers loss, gradients and parameters and exists only when a
    replay key was given; `checked` says that the update was recomputed.
    """

    step: int
    rank: int
    optimizer: int
    loss: float | None
    lr: float | None
    backwards: int
    checked: bool
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Step records of one rank since the last batch, and new findings: what one RunObserved entry covers."""

    rank: int
    first_step: int
    last_step: int
    records: Digest
    records_size: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredData:
    """A declared data set whose rows a run may be given: its files, how many rows they hold, and its label column."""

    name: str
    files: tuple[Path, ...]
    rows: int
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """
    A command to run and watch.

    `folder` receives the run's files. `data` are the declared data sets that labels are compared with. `env` overrides variables (None removes one). With `output` the command's standard
    output and error go to that file and its input is empty. `checks=False` records without judging. `keep_records` keeps
    every StepRecord of rank 0 in the outcome; long runs should read the file instead. A command that `outlives` its agent
    goes on unwatched when the agent is killed; any other is then asked to end.
    """

    command: tuple[str, ...]
    cwd: Path
    folder: Path
    env: Mapping[str, str | None] = field(default_factory=dict)
    monitoring: MonitoringSection = field(default_factory=MonitoringSection)
    reference: Reference = field(default_factory=Reference)
    data: tuple[DeclaredData, ...] = ()
    checks: bool = True
    keep_records: bool = False
    replay_key: str | None = None
    stop_after: int | None = None
    timeout_seconds: float | None = None
    outlives: bool = False
    output: Path | None = None
    on_finding: Callable[[Finding], None] | None = None
    on_batch: Callable[[Batch], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOutcome:
    """
    What a watched command came to.

    `exit_code` is the command's own, 128 + n when signal n ended it. `steps` are optimizer steps of rank 0. `unseen`
    says in words what could not be watched; `sampling` how densely was looked: samples, coordinates, parameters.
    """

    exit_code: int
    seconds: float
    steps: int = 0
    ranks: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    points: tuple[MetricPoint, ...] = ()
    findings: tuple[Finding, ...] = ()
    effective: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[StepRecord, ...] = ()
    overhead: Overhead = field(default_factory=Overhead)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    stopped: bool = False
    timed_out: bool = False
    trouble: str | None = None
