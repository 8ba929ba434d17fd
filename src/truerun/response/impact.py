"""What an incident cost: optimizer steps and hours of tainted runs, the reruns used to find out, checkpoints not to use.

Counts what is recorded. It cannot see people's time, nor what was built elsewhere on a tainted checkpoint.
"""

from __future__ import annotations

from truerun.core.incident import Impact
from truerun.ledger.history import RunHistory
from truerun.response.evidence import Evidence

SECONDS_PER_HOUR = 3600.0


def measure_impact(evidence: Evidence) -> Impact:
    """The impact on the runs that people started; a run without an end counts with the steps it was observed for."""
    tainted = [run for run in evidence.history.runs.values() if run.started.fact.purpose == "run" and _is_tainted(evidence, run)]
    traces = [record.fact for record in evidence.history.traces if record.fact.attribution.run == evidence.run.id]
    return Impact(
        steps=sum(_steps(run) for run in tainted),
        hours=sum(_seconds(run) for run in tainted) / SECONDS_PER_HOUR,
        reruns=sum(trace.attribution.runs_used for trace in traces),
        rerun_hours=sum(trace.seconds for trace in traces) / SECONDS_PER_HOUR,
        runs=tuple(run.id for run in tainted),
        checkpoints=tuple(path for run in tainted for path in evidence.checkpoints.get(run.id, ())),
    )


def _is_tainted(evidence: Evidence, run: RunHistory) -> bool:
    """The run itself counts even when nothing was convicted: it is what went wrong."""
    return run.id == evidence.run.id or evidence.is_tainted(run.started.fact.lock)


def _steps(run: RunHistory) -> int:
    if run.finished is not None:
        return run.finished.fact.steps
    return max((record.fact.last_step for record in run.observed), default=0)


def _seconds(run: RunHistory) -> float:
    return run.finished.fact.seconds if run.finished is not None else 0.0
