"""The curves of a run: its losses and reported metrics beside those of healthy runs, and beside their own past.

Healthy curves travel from run to run: what this judge learned holds its own run's curves and those of the runs before it,
as long as nothing of the lock changed; a run in which drift was found adds none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.core.finding import Finding
from truerun.core.run import MetricPoint
from truerun.monitoring.block_means import MOST, BlockMeans, Curve
from truerun.monitoring.change_evidence import MOST_ANCHORS, ChangeEvidence
from truerun.monitoring.curve_drift import Told, check_change, check_level
from truerun.monitoring.healthy_curves import HealthyModel, fit
from truerun.monitoring.metric_diverging import DivergenceWatch
from truerun.monitoring.metric_spike import SpikeWatch

MOST_RUNS = 6
MOST_SERIES = 4
MOST_LOSSES = 2
EVENTS = ("load_state_dict", "code.")
# Metrics that tell of the machine or of the schedule, not of learning.
OF_THE_MACHINE = re.compile(
    r"(^|[^a-z])(lr|learning_rate|epochs?|steps?|time|runtime|secs?|seconds?|ms|speed|throughput|fps|eta|memory|mem|gb|mb|gpu|cpu"
    r"|util\w*|tokens_seen|samples_seen|per_(second|sec|s))([^a-z]|$)"
)


class Series:
    """One curve of the run as it grows: kept short, and compared with *model* where there is one."""

    def __init__(self, name: str, model: HealthyModel | None) -> None:
        self.name = name
        self.model = model
        self.places = 0
        self.positive = True
        self.drifted = False
        self.events: dict[int, str] = {}
        self.starts: list[int] = []
        self._plain = BlockMeans(most=MOST)
        self._logarithms = BlockMeans(most=MOST, logarithmic=True)
        self._now = BlockMeans(model.size, logarithmic=model.logarithmic) if model is not None else None
        self._evidence = ChangeEvidence(model) if model is not None else None

    def event(self, place: int, what: str) -> None:
        """*what* was recorded just before *place*."""
        if self.model is not None and self._evidence is not None:
            block = (place - 1) // self.model.size
            self.events.setdefault(block, f"{what} at step {place}")
            self._evidence.anchor(block)

    def add(self, place: int, step: int, value: float, told: Told) -> list[Finding]:
        """*value* at *place*, which is the run's *step*; what the blocks that are full by now show."""
        self.places = max(self.places, place)
        self.positive = self.positive and (value > 0 or not math.isfinite(value))
        self._plain.add(place, value)
        self._logarithms.add(place, value)
        if self.model is None or self._now is None or self._evidence is None:
            return []
        begun = min((place - 1) // self.model.size, len(self.model.trend))
        self.starts += [step] * (begun + 1 - len(self.starts))
        found: list[Finding] = []
        while self._evidence.blocks < begun:
            block = self._evidence.blocks
            change = self._evidence.take(self._now.mean(block))
            if change is not None:
                found += check_change(self.model, change, self.starts, told, self._said(change.block))
            means = np.array([self._now.mean(i) for i in range(block + 1)])
            found += check_level(self.model, means, step - 1, told)
        self._now.add(place, value)
        self.drifted = self.drifted or bool(found)
        return found

    def curve(self) -> Curve:
        """The whole curve so far."""
        return (self._logarithms if self.positive else self._plain).curve(self.places)

    def _said(self, block: int) -> str:
        if len(self.events) > MOST_ANCHORS:
            return ""  # what happens all the time explains nothing
        near = [self.events[at] for at in (block, block - 1, block + 1) if at in self.events]
        return f"It coincides with {near[0]}." if near else ""


class CurvesJudge(Judge):
    """Watches the losses of rank 0's optimizers and its metrics."""

    name = "curves"

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        reference = request.reference
        self._earlier = _parse(reference.learned.get(self.name, {}))
        self._comparable = reference.same_program
        self._source = reference.learned_from
        self._series: dict[str, Series] = {}
        self._spikes: dict[str, SpikeWatch] = {}
        self._divergence = DivergenceWatch("loss", 0)
        self._seen: dict[int, int] = {}
        self._optimizers: set[int] = set()
        self._loaded = False
        self._aligned = True

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """The loss of a step of rank 0."""
        if record.rank:
            return ()
        number = record.optimizer
        self._align(known, record, notes)
        self._optimizers.add(number)
        place = self._seen[number] = self._seen.get(number, 0) + 1
        name = "loss" if number == 0 else f"loss of optimizer {number}"
        found: list[Finding] = []
        series = self._watch(name) if number < MOST_LOSSES else None
        if series is not None:
            for what in sorted(note for note in notes if note.startswith(EVENTS)) if place > 1 else ():
                series.event(place, what)
        if record.loss is None:
            return ()
        if series is not None:
            found += self._compare(series, place, record.step, record.loss)
        if name not in self._spikes:
            self._spikes[name] = SpikeWatch(name, 0)
        found += self._spikes[name].check(record.loss, record.step)
        if self._optimizers == {0}:
            found += self._divergence.check(record.loss, record.step)
        return tuple(found)

    def metric(self, known: Process, point: MetricPoint) -> Findings:
        """A value that the program reported."""
        if known.rank not in (0, None) or OF_THE_MACHINE.search(point.name.lower()):
            return ()
        series = self._watch(point.name)
        return tuple(self._compare(series, series.places + 1, point.step, point.value)) if series is not None else ()

    def learned(self) -> Mapping[str, Any]:
        """The run's own curves after those of the healthy runs before it."""
        kept: dict[str, Any] = {}
        for name, series in self._series.items():
            before = self._earlier.get(name, []) if self._same_lock else []
            curve = series.curve()
            healthy = not series.drifted or not self._same_lock  # what is explained by a new lock is the new normal
            own = [curve] if self._aligned and healthy and len(curve.means) else []
            curves = [item for item in before if not own or item.logarithmic == curve.logarithmic][
                -(MOST_RUNS - len(own)) :
            ] + own
            if curves:
                kept[name] = [_shown(item) for item in curves]
        return {"curves": kept, "loaded": self._loaded} if kept else {}

    @property
    def _same_lock(self) -> bool:
        return self._comparable and self.request.reference.same_lock

    def _align(self, known: Process, record: StepRecord, notes: frozenset[str]) -> None:
        """A run that goes on from a checkpoint is elsewhere on the healthy curves than its steps say."""
        if not self._seen and "load_state_dict" in notes:
            self._loaded = True
        if known.offset or self._loaded != bool(self.request.reference.learned.get(self.name, {}).get("loaded", self._loaded)):
            self._aligned = False

    def _watch(self, name: str) -> Series | None:
        series = self._series.get(name)
        if series is None and len(self._series) < MOST_SERIES:
            earlier = self._earlier.get(name, []) if self._comparable else []
            series = self._series[name] = Series(name, fit(earlier))
        return series

    def _compare(self, series: Series, place: int, step: int, value: float) -> list[Finding]:
        runs = series.model.runs if series.model is not None else 0
        source = f"{runs} healthy runs up to {self._source}" if runs > 1 else self._source
        found = series.add(place, step, value, Told(name=series.name, rank=0, source=source, same_lock=self._same_lock))
        return found if self._aligned else []


def _shown(curve: Curve) -> dict[str, Any]:
    means = [float(f"{value:.6g}") if math.isfinite(value) else None for value in curve.means]
    return {"size": curve.size, "logarithmic": curve.logarithmic, "means": means}


def _parse(learned: Mapping[str, Any]) -> dict[str, list[Curve]]:
    """Curves by name, from what an earlier run recorded; what does not hold what it should counts as not there."""
    found: dict[str, list[Curve]] = {}
    for name, curves in dict(learned.get("curves", {})).items():
        for shown in curves:
            try:
                means = np.array([math.nan if value is None else float(value) for value in shown["means"]])
                size = int(shown["size"])
            except (KeyError, TypeError, ValueError):
                continue
            if size > 0 and not size & (size - 1):
                found.setdefault(str(name), []).append(Curve(size=size, logarithmic=bool(shown.get("logarithmic")), means=means))
    return found
