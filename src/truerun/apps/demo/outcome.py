"""What came out of a telling: planted and found, before and after, and whether the story is the one that it claims to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truerun.core.attribution import Suspect
from truerun.ledger.history import History

CONVICTS, ACQUITS = 0.9, 0.1
HELD_EXIT = 4
METRIC = "val_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A harmful change as the ledger records it; `kind` is config or data."""

    change: str
    title: str
    actor: str
    kind: str
    entry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The ids of the three runs that are compared."""

    reference: str
    degraded: str
    recovered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The enforced run of the same changes: its exit code, who was named as able to approve, and the exit code after the mentor's no."""

    exit_code: int
    after_reject: int
    who: tuple[str, ...]
    mentor: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that `--output` writes."""

    seed: int
    planted: tuple[Planted, ...]
    suspects: tuple[Suspect, ...]
    legitimate: tuple[str, ...]
    runs: Runs
    metrics: dict[str, float | None]
    tolerance: float
    held: Held
    seconds: float
    report: Path

    @classmethod
    def of(
        cls,
        history: History,
        *,
        seed: int,
        runs: Runs,
        tolerance: float,
        planted: tuple[Planted, ...],
        legitimate: tuple[str, ...],
        held: Held,
        seconds: float,
        report: Path,
    ) -> Outcome:
        """Read from the ledger what the trace said and what the runs came to."""
        traces = [record.fact.attribution for record in history.traces if record.fact.attribution.run == runs.degraded]
        suspects = sorted(traces[-1].suspects, key=lambda suspect: -suspect.probability) if traces else []
        names = {"reference": runs.reference, "degraded": runs.degraded, "recovered": runs.recovered}
        return cls(
            seed=seed,
            planted=planted,
            suspects=tuple(suspects),
            legitimate=legitimate,
            runs=runs,
            metrics={what: _metric(history, run) for what, run in names.items()},
            tolerance=tolerance,
            held=held,
            seconds=seconds,
            report=report,
        )

    @property
    def found(self) -> tuple[Suspect, ...]:
        """As many of the top suspects as changes were planted."""
        return self.suspects[: len(self.planted)]

    @property
    def highest_legitimate(self) -> float:
        """The highest probability that any legitimate change got."""
        planted = {(item.change, item.entry) for item in self.planted}
        rest = [item.probability for item in self.suspects if (item.change.id, item.lock_entry) not in planted]
        return max(rest, default=0.0)

    @property
    def within_tolerance(self) -> bool:
        """Whether the recovered run is as good as the reference, within the declared tolerance."""
        before, after = self.metrics["reference"], self.metrics["recovered"]
        return before is not None and after is not None and before - after <= self.tolerance

    def missing(self) -> Iterator[str]:
        """What did not come out as the story says, in words; nothing when all did."""
        before, after = self.metrics["reference"], self.metrics["degraded"]
        if before is None or after is None or before - after <= self.tolerance:
            yield f"the run did not get worse beyond tolerance: {before} before, {after} after"
        wanted = {(item.change, item.entry) for item in self.planted}
        if {(item.change.id, item.lock_entry) for item in self.found} != wanted:
            yield f"the top suspects are not the planted changes: {', '.join(item.change.title() for item in self.found) or 'none'}"
        if any(item.probability < CONVICTS for item in self.found):
            yield f"a planted change got a probability below {CONVICTS}"
        if self.highest_legitimate >= ACQUITS:
            yield f"a legitimate change got a probability of {self.highest_legitimate:.2f}"
        if not self.within_tolerance:
            yield f"the recovered run is not back: {self.metrics['recovered']}, and {before} before"
        if self.held.exit_code != HELD_EXIT or self.held.mentor not in self.held.who:
            yield f"the enforced run was not held for {self.held.mentor}: exit code {self.held.exit_code}"
        if self.held.after_reject == 0 or self.held.steps:
            yield f"after the mentor's no, something ran: exit code {self.held.after_reject}, {self.held.steps} steps"
        if not self.report.is_file():
            yield "there is no report"

    def summary(self) -> tuple[str, ...]:
        """Five lines for the end of the telling."""
        metrics = {name: "none" if value is None else f"{value:.3f}" for name, value in self.metrics.items()}
        found = "; ".join(f"{item.change.title()} ({min(item.probability, 0.999):.1%})" for item in self.found)
        who = ", ".join(sorted({item.change.actor.id for item in self.found if item.change.actor is not None}))
        return (
            f"caught      {METRIC} {metrics['reference']} -> {metrics['degraded']}; tolerated were {self.tolerance}",
            f"traced to   {found}; who can say more: {who}",
            f"cleared     {len(self.legitimate)} legitimate changes, none above {max(self.highest_legitimate, 0.001):.1%}",
            f"restored    {metrics['recovered']}; enforced, the same is held for {self.held.mentor} and, refused, does not run",
            f"report      {self.report}  ({self.seconds:.0f} s in all)",
        )

    def as_json(self) -> dict[str, Any]:
        """The JSON contract of `truerun demo --output`."""
        return {
            "schema": 1,
            "seed": self.seed,
            "planted": [
                {"change": item.change, "title": item.title, "actor": item.actor, "kind": item.kind, "entry": item.entry}
                for item in self.planted
            ],
            "found": [
                {
                    "change": item.change.id,
                    "title": item.change.title(),
                    "actor": item.change.actor.id if item.change.actor else None,
                    "probability": item.probability,
                    "entry": item.lock_entry,
                }
                for item in self.found
            ],
            "legitimate": {"count": len(self.legitimate), "max_probability": self.highest_legitimate},
            "runs": {"reference": self.runs.reference, "degraded": self.runs.degraded, "recovered": self.runs.recovered},
            "metrics": self.metrics,
            "tolerance": self.tolerance,
            "within_tolerance": self.within_tolerance,
            "held": {
                "exit_code": self.held.exit_code,
                "who_can_approve": list(self.held.who),
                "after_reject": self.held.after_reject,
                "steps": self.held.steps,
            },
            "seconds": round(self.seconds, 1),
            "report": str(self.report),
            "missing": list(self.missing()),
        }


def _metric(history: History, run: str) -> float | None:
    found = history.runs.get(run)
    return found.finished.fact.metrics.get(METRIC) if found is not None and found.finished is not None else None
