"""Reporting: gathers what is known about a run from the ledger and the run's files, and hands it to `response/`. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from truerun.adapters.files import hash_file
from truerun.apps.judging_outputs import kept_outputs
from truerun.apps.project import Project
from truerun.core.attribution import Attribution
from truerun.core.errors import InputError, VerificationError
from truerun.core.incident import Anchor, Curve, Incident, Outcome
from truerun.core.run import MetricPoint
from truerun.ledger.history import History, RunHistory
from truerun.ledger.wire import render_base64
from truerun.response.evidence import Evidence
from truerun.response.incident import build_incident
from truerun.response.outcomes import measure_outcomes

LOSS = "loss"
MAX_POINTS = 2000
MAX_LINE_BYTES = 64 * 1024
MAX_OUTPUT_ROWS = 5_000_000
MAX_CLASSES = 60


def gather_incident(project: Project, run: str) -> Incident:
    """
    The incident of run *run* (its id or a beginning of it).

    Raises UsageError for a run that is not recorded, LedgerCorruptError when the history does not verify: a report must
    not be built on entries that someone may have edited.
    """
    project.ledger.verify()
    history = project.history()
    subject = history.run(run)
    attribution = _attribution(history, subject)
    reference = _reference(history, subject, attribution)
    head = project.ledger.tree_head()
    return build_incident(
        Evidence(
            declaration=project.declaration,
            history=history,
            people=project.people(),
            run=subject,
            reference=reference,
            attribution=attribution,
            findings=subject.findings,
            curves=tuple(_curves(project, subject, reference, attribution)),
            outcomes=_outcomes(project, subject, reference),
            checkpoints={item.id: tuple(_checkpoints(project, item)) for item in history.runs.values()},
            anchor=Anchor(origin=head.origin, size=head.size, root=render_base64(head.root), log_key=project.ledger.log_key),
        )
    )


def _attribution(history: History, run: RunHistory) -> Attribution | None:
    found = [record.fact.attribution for record in history.traces if record.fact.attribution.run == run.id]
    return found[-1] if found else None


def _reference(history: History, run: RunHistory, attribution: Attribution | None) -> RunHistory | None:
    """What the trace compared with, else the newest earlier run that ended on another lock."""
    if attribution is not None and attribution.against in history.runs:
        return history.runs[attribution.against]
    earlier = [
        item
        for item in history.runs.values()
        if item.finished is not None and item.finished.fact.metrics and item.started.index < run.started.index
    ]
    return max(earlier, key=lambda item: item.started.index, default=None)


def _folder(project: Project, run: RunHistory) -> Path:
    return project.folder / "runs" / run.id


# Curves


def _curves(project: Project, run: RunHistory, reference: RunHistory | None, attribution: Attribution | None) -> Iterator[Curve]:
    """Declared metrics first, then the loss as the agent saw it, then what else the training reported."""
    mine = _points(project, run)
    theirs = _points(project, reference) if reference is not None else {}
    step = (attribution.onset or {}).get("step") if attribution is not None else None
    onset = step if isinstance(step, int) else None
    declared = project.declaration.metrics
    names = [*(name for name in declared if name in mine), *(name for name in mine if name not in declared)]
    for name in names[:6]:
        section = declared.get(name)
        yield Curve(
            name=name,
            goal=section.goal if section is not None else "min",
            run=tuple(mine[name]),
            reference=tuple(theirs.get(name, ())),
            tolerance=section.tolerance if section is not None else None,
            declared=section is not None,
            onset=onset,
        )


def _points(project: Project, run: RunHistory) -> dict[str, list[MetricPoint]]:
    """Every series of rank 0; at most 2000 points each, evenly chosen."""
    series: dict[str, list[MetricPoint]] = {}
    folder = _folder(project, run)
    for item in _lines(folder / "metrics.jsonl"):
        if item.get("rank", 0) == 0 and isinstance(item.get("value"), int | float):
            series.setdefault(str(item["name"]), []).append(
                MetricPoint(name=str(item["name"]), step=int(item["step"]), value=float(item["value"]))
            )
    losses = [
        MetricPoint(name=LOSS, step=int(item["step"]), value=float(item["loss"]))
        for item in _lines(folder / "steps-rank0.jsonl")
        if isinstance(item.get("loss"), int | float)
    ]
    if losses and not any(LOSS in name.lower() for name in series):  # what the training calls its loss says more
        series[LOSS] = losses
    return {name: points[:: max(1, -(-len(points) // MAX_POINTS))] for name, points in series.items()}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON values of a run's file, one a line; the last line of a killed run may be cut short and is left out."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


# Outputs


def _outcomes(project: Project, run: RunHistory, reference: RunHistory | None) -> tuple[Outcome, ...]:
    if project.declaration.outputs is None:
        return ()
    pairs = _pairs(project, run)
    if len({label for label, _ in pairs}) > MAX_CLASSES:
        return ()
    return measure_outcomes(pairs, _pairs(project, reference) if reference is not None else ())


def _pairs(project: Project, run: RunHistory) -> list[tuple[str, str]]:
    """(label, prediction) of every example that the run's stored outputs hold; none where they are not stored here."""
    section = project.declaration.outputs
    digest = run.finished.fact.outputs if run.finished is not None else None
    if section is None or digest is None:
        return []
    path = kept_outputs(project, run.id)
    if path is None or not path.is_file():
        return []
    if hash_file(path) != digest:
        raise VerificationError(
            f"the kept outputs of run {run.id} are not the ones that it recorded",
            got=str(hash_file(path)),
            expected=str(digest),
            next_step=f"somebody edited {path}; move it away to make the report without it",
        )
    import polars as pl

    wanted = [section.label, section.decision or section.prediction]
    try:
        table = pl.read_parquet(path, columns=wanted, n_rows=MAX_OUTPUT_ROWS)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"the outputs of run {run.id} cannot be read", got=str(error)[:120], expected=f"columns {', '.join(wanted)}"
        ) from error
    labels, predictions = (table[name].cast(pl.String).fill_null("(none)").to_list() for name in wanted)
    return list(zip(labels, predictions, strict=True))


def _checkpoints(project: Project, run: RunHistory) -> Iterator[str]:
    output = project.declaration.checkpoints.output
    if output is not None and run.finished is not None and run.finished.fact.steps:
        yield f"{output} as run {run.id} left it"
