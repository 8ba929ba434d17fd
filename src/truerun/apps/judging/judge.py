"""One aspect of a run under watch, judged outside the training process: takes what the probe's sense of it handed over.

A judge turns frames into the arrays that `monitoring/` speaks of and passes on its findings; what is right or wrong is said
there, not here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.core.finding import Finding
from truerun.core.run import MetricPoint
from truerun.monitoring.hyperparameter_drift import HyperparameterWatch
from truerun.monitoring.observation import OptimizerSeen
from truerun.monitoring.step_skipped import StepPattern

Findings = tuple[Finding, ...]


@dataclass(slots=True, eq=False)
class Optimizer:
    """One optimizer of one process and what follows it from step to step."""

    seen: OptimizerSeen
    hyperparameters: HyperparameterWatch
    pattern: StepPattern
    groups: list[Mapping[str, Any]] = field(default_factory=list)
    now: list[Mapping[str, Any]] = field(default_factory=list)
    samples: int = 0


@dataclass(slots=True, eq=False)
class Process:
    """
    One process that said hello: its rank once it has stepped, and how far it has come.

    `steps` counts its own steps; `offset + steps` is the run's step, where an earlier process of the same rank took the
    first `offset`.
    """

    pid: int
    hello: Mapping[str, Any]
    rank: int | None = None
    offset: int = 0
    steps: int = 0
    spent: float = 0.0
    spent_by: Mapping[str, float] = field(default_factory=dict)
    bye: Mapping[str, Any] | None = None
    open: bool = True
    closed: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    rhythm: float = 0.0
    used: float | None = None
    seed: int | None = None
    optimizers: dict[int, Optimizer] = field(default_factory=dict)

    def place(self, step: int) -> tuple[int, int]:
        """(step of the run, rank) for the process's own *step*."""
        return self.offset + step, self.rank or 0


class Judge:
    """
    The base: has nothing to say. `kinds` are the kinds of frames that `take` is given; `name` names what it learned.

    Frames come from a process that may lie: a KeyError, TypeError, ValueError, IndexError, AttributeError or FormatError
    that one causes means that it counts as not received.
    """

    name = ""
    kinds: frozenset[str] = frozenset()

    def __init__(self, request: WatchRequest) -> None:
        self.request = request

    def take(self, known: Process, frame: Frame) -> Findings:
        """A frame of one of `kinds` from *known*."""
        return ()

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """One optimizer step; *extra* is what the sense of this judge's name put into its row."""
        return ()

    def metric(self, known: Process, point: MetricPoint) -> Findings:
        """A value that the program reported."""
        return ()

    def tick(self, processes: Sequence[Process], child: int) -> Findings:
        """Called a few times a second while the command, process *child*, runs."""
        return ()

    def ended(self, known: Process) -> Findings:
        """*known* said goodbye (`known.bye`)."""
        return ()

    def heard(self, finding: Finding) -> None:
        """Somebody, this judge or another, has made *finding*."""

    def finish(self, processes: Sequence[Process]) -> Findings:
        """The command has ended and everything that was sent has arrived."""
        return ()

    def learned(self) -> Mapping[str, Any]:
        """What a later run is compared with (JSON); it comes back as `request.reference.learned[name]`."""
        return {}
