"""The gate after a run: its kept predictions against those of an earlier run, read from both runs' folders.

The earlier run is the one named, else the newest that was admitted, passed and kept its predictions. Its file must be the one that
its last entry recorded: a reference that somebody edited afterwards is none.
"""

from __future__ import annotations

from pathlib import Path

from truerun.apps.inspecting import KindReport
from truerun.apps.project import Project
from truerun.core.decision import Outcome
from truerun.core.declaration import OutputsSection
from truerun.core.errors import TruerunError, VerificationError
from truerun.core.finding import Finding
from truerun.core.run import Verdict
from truerun.inspection.outputs.counts import ID_COLUMNS, OutputCounts, count_outputs
from truerun.inspection.outputs.rules import check_outputs
from truerun.ledger.history import History, RunHistory


def judge_outputs(project: Project, run: str, history: History | None, against: str | None = None) -> tuple[Finding, ...]:
    """
    Findings on the predictions that *run* kept; none where `[outputs]` is not declared or the run kept none.

    Raises InputError for predictions that cannot be read, VerificationError for a reference that was edited since.
    """
    section = project.declaration.outputs
    path = kept_outputs(project, run)
    if section is None or path is None or not path.is_file():
        return ()
    earlier = reference_run(history, run, against)
    reference = None if earlier is None else _read_reference(project, earlier, section)
    return check_outputs(_read(path, section, f"run {run}"), reference, section)


def inspect_outputs(project: Project, *, asked: bool) -> KindReport:
    """
    The predictions that lie in the project now, against the newest run that passed.

    That there are none yet, or nothing to compare with, is "could not tell" only where outputs were *asked* for by name.
    """
    section = project.declaration.outputs
    if section is None:
        return KindReport(kind="outputs", looked_at="none declared")
    path = project.root / section.predictions
    if not path.is_file():
        return _none(f"there are no predictions at {section.predictions}", asked=asked)
    try:
        earlier = reference_run(project.history(), "")
        reference = None if earlier is None else _read_reference(project, earlier, section)
        current = _read(path, section, section.predictions)
    except TruerunError as error:
        return KindReport(kind="outputs", looked_at=section.predictions, could_not_tell=error.message)
    looked_at = f"{current.examples} predictions" + (f" against {reference.name}" if reference is not None else "")
    if reference is None:
        return _none(f"{looked_at}; no run that passed has kept any to compare with", asked=asked)
    return KindReport(kind="outputs", looked_at=looked_at, findings=check_outputs(current, reference, section))


def _none(why: str, *, asked: bool) -> KindReport:
    return KindReport(kind="outputs", could_not_tell=why) if asked else KindReport(kind="outputs", looked_at=why)


def kept_outputs(project: Project, run: str) -> Path | None:
    """Where the predictions of *run* are kept, whether or not they are; None without `[outputs]`."""
    section = project.declaration.outputs
    return None if section is None else project.folder / "runs" / run / "outputs" / Path(section.predictions).name


def reference_run(history: History | None, run: str, against: str | None = None) -> RunHistory | None:
    """The run to compare with: *against*, else the newest other one that was admitted, passed and kept its predictions."""
    if history is None:
        return None
    if against is not None:
        return history.run(against)
    passed = [
        other
        for other in history.runs.values()
        if other.id != run
        and other.finished is not None
        and other.finished.fact.outputs is not None
        and other.finished.fact.verdict is Verdict.PASS
        and other.started.fact.decision is not None
        and other.started.fact.decision.outcome is Outcome.ALLOW
    ]
    return max(passed, key=lambda other: other.last_index, default=None)


def _read_reference(project: Project, earlier: RunHistory, section: OutputsSection) -> OutputCounts | None:
    from truerun.adapters.files import hash_file

    recorded = earlier.finished.fact.outputs if earlier.finished is not None else None
    path = kept_outputs(project, earlier.id)
    if recorded is None or path is None or not path.is_file():
        return None
    found = hash_file(path)
    if found != recorded:
        raise VerificationError(
            f"the kept predictions of run {earlier.id} are not the ones it recorded",
            got=found.short,
            expected=recorded.short,
            next_step=f"somebody edited {path}; name another run with --against, or run the reference again",
        )
    return _read(path, section, f"run {earlier.id}")


def _read(path: Path, section: OutputsSection, name: str) -> OutputCounts:
    from truerun.adapters.tables import load_table

    frame, _ = load_table([path], name)
    wanted = {section.label, section.prediction, section.decision, *section.groups, *ID_COLUMNS}
    return count_outputs(
        frame.select([column for column in frame.columns if column in wanted]).to_dict(as_series=False), section, name=name
    )
