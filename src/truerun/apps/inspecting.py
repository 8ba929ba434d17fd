"""Inspection of a project at rest: reads what the rules need, calls them, and says what was looked at.

Judges nothing itself. What cannot be read becomes "could not tell" for its kind and does not hide the other kinds. Outputs
are looked at by `apps/judging_outputs.py`; a run is not needed for anything here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from truerun.adapters import packages
from truerun.adapters.bytecode import find_bytecode
from truerun.adapters.file_source import open_source
from truerun.adapters.files import read_bounded
from truerun.adapters.installed import inspect_installed
from truerun.adapters.startup import read_startup
from truerun.apps.locking import MAX_CODE_BYTES, Resolved, compare
from truerun.apps.project import Project
from truerun.core.actor import Actor, Basis
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.codec import to_json
from truerun.core.errors import FormatError, InputError, MissingExtraError, TruerunError, UsageError
from truerun.core.fact import LockProposed
from truerun.core.finding import Finding
from truerun.inspection.code.code_drift import check_code
from truerun.inspection.config.command_drift import check_command
from truerun.inspection.config.config_drift import check_config
from truerun.inspection.config.declaration_drift import check_declaration
from truerun.inspection.config.environment_variable import VariableRead, check_variables
from truerun.inspection.data.data_drift import check_data
from truerun.inspection.environment.bytecode_modified import check_bytecode
from truerun.inspection.environment.library_preload import PRELOAD_FILE, check_preload
from truerun.inspection.environment.package_drift import check_packages
from truerun.inspection.environment.package_modified import check_files
from truerun.inspection.environment.startup_injection import check_startup
from truerun.inspection.inspection_incomplete import check_complete
from truerun.inspection.reference import Reference
from truerun.inspection.weights.checkpoint_drift import check_checkpoints
from truerun.inspection.weights.unsafe_checkpoint import check_checkpoint
from truerun.ledger.history import Recorded
from truerun.oversight.admission import review_all

KINDS = ("data", "config", "code", "environment", "weights")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindReport:
    """What inspecting one kind came to: findings, what was looked at in words, and why nothing could be told, if so."""

    kind: str
    findings: tuple[Finding, ...] = ()
    looked_at: str = ""
    could_not_tell: str | None = None


def inspect(
    project: Project,
    resolved: Resolved,
    reference: Reference | None,
    kinds: Sequence[str] = KINDS,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """All findings about *resolved* against *reference*, of the given *kinds*; what could not be told is a finding too."""
    reports = inspect_kinds(project, resolved, reference, kinds, environ=environ, progress=progress)
    comparable = reference is not None
    return tuple(
        finding
        for report in reports
        for finding in (*report.findings, *check_complete(report.kind, report.could_not_tell, comparable=comparable))
    )


def inspect_for_run(
    project: Project, resolved: Resolved, command: Sequence[str], *, environ: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:
    """What admission wants to know: every kind against the approved lock, and the command line that is about to run."""
    reference = find_reference(project)
    asked = check_command(command, reference, project.declaration_name) if reference is not None else ()
    return (*asked, *inspect(project, resolved, reference, environ=environ))


def inspect_kinds(
    project: Project,
    resolved: Resolved,
    reference: Reference | None,
    kinds: Sequence[str] = KINDS,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[KindReport, ...]:
    """As `inspect`, one report for each kind, in the order of KINDS. *environ* is what a run would see (default: ours)."""
    scene = _Scene(project, resolved, reference, os.environ if environ is None else environ, progress or (lambda _: None))
    return tuple(scene.report(kind) for kind in KINDS if kind in kinds)


def find_reference(project: Project) -> Reference | None:
    """
    The lock to compare with: the newest approved one, else the newest proposed one; None without a ledger or a proposal.

    Raises InputError when that lock is recorded but not stored here.
    """
    try:
        history = project.history()
    except UsageError:
        return None
    review = review_all(history, project.people()).approved
    if review is not None:
        decided = max(review.outlook.counted, key=lambda vote: vote.entry)
        lock = project.lock(review.proposal.fact.lock)
        return Reference(lock=lock, at=decided.fact.at, entry=decided.entry, approved=True)
    newest = history.latest_proposal()
    if newest is None:
        return None
    return Reference(lock=project.lock(newest.fact.lock), at=newest.fact.at, entry=newest.index, approved=False)


class _Scene:
    """One inspection: what is read once and shared by the kinds."""

    def __init__(
        self, project: Project, resolved: Resolved, reference: Reference | None, environ: Mapping[str, str], progress: Progress
    ) -> None:
        self._project = project
        self._resolved = resolved
        self._reference = reference
        self._environ = environ
        self._progress = progress
        self._changes: tuple[Change, ...] | None = None

    def report(self, kind: str) -> KindReport:
        """Inspect one kind; an expected failure becomes its "could not tell"."""
        self._progress(kind)
        look = {
            "config": self._config,
            "code": self._code,
            "environment": self._environment,
            "weights": self._weights,
            "data": self._data,
        }[kind]
        try:
            report = look()
        except (InputError, FormatError, MissingExtraError) as error:
            return KindReport(kind=kind, could_not_tell=_reason(error))
        return dataclasses.replace(report, findings=tuple(self._traced(finding) for finding in report.findings))

    def _compared(self) -> tuple[Change, ...]:
        if self._changes is None:
            same = self._reference is not None and self._reference.lock.digest == self._resolved.lock.digest
            known = self._reference.lock if self._reference is not None else None
            self._changes = () if same or known is None else compare(self._project, known, self._resolved).changes
        return self._changes

    def _config(self) -> KindReport:
        lock = self._resolved.lock
        keys = sum(len(config.keys) for config in lock.config.values())
        looked_at = f"{keys} keys, {len(lock.environment.variables)} environment variables"
        if self._reference is None:
            return _nothing_to_compare("config", looked_at)
        changes = self._compared()
        findings = (
            *check_declaration(changes, self._reference),
            *check_config(changes, self._reference),
            *check_variables(changes, self._reference, self._reads(changes)),
        )
        return KindReport(kind="config", findings=findings, looked_at=looked_at)

    def _reads(self, changes: Sequence[Change]) -> list[VariableRead]:
        """Where the code reads variables; looked up only when one of them changed."""
        if not any(change.kind is ChangeKind.ENVIRONMENT and change.name == "environ" for change in changes):
            return []
        return [
            VariableRead(name=name, path=path, line=line)
            for path in self._resolved.lock.code
            if path.endswith(".py")
            for name, line in packages.variable_reads(read_bounded(self._project.root / path, MAX_CODE_BYTES))
        ]

    def _code(self) -> KindReport:
        looked_at = f"{len(self._resolved.lock.code)} files"
        if self._reference is None:
            return _nothing_to_compare("code", looked_at)
        return KindReport(kind="code", findings=check_code(self._compared(), self._reference, {}), looked_at=looked_at)

    def _environment(self) -> KindReport:
        command = self._project.declaration.project.command
        interpreter = packages.find_interpreter(command, self._project.root, self._environ)
        found = packages.distributions(interpreter)
        locked = self._resolved.lock.environment
        installed = inspect_installed(found, locked.packages, self._project.cache, self._progress)
        startup = read_startup(interpreter, self._environ, installed.covered, self._project.root)
        differing, _ = find_bytecode(interpreter, self._project.root, self._resolved.lock.code, self._project.cache)
        known = self._reference.lock.environment if self._reference else None
        findings = (
            *check_files(installed.modified),
            *check_bytecode(differing),
            *check_startup(startup, known.startup if known else {}),
            *check_preload(self._environ, known.variables if known else {}, _read_preload_file()),
            *(check_packages(self._compared(), self._reference) if self._reference else ()),
        )
        looked_at = f"{installed.compared} files of {len(locked.packages)} distributions, Python {interpreter.version}"
        return KindReport(kind="environment", findings=findings, looked_at=looked_at)

    def _weights(self) -> KindReport:
        findings: list[Finding] = []
        changes = {change.name: change for change in self._compared() if change.kind is ChangeKind.CHECKPOINT}
        for path in self._resolved.lock.checkpoints:
            with open_source(self._project.root / path) as source:
                findings += (_caused_by(finding, changes.get(path)) for finding in check_checkpoint(path, source))
        if self._reference:
            findings += check_checkpoints(self._compared(), self._reference)
        looked_at = f"{len(self._resolved.lock.checkpoints)} checkpoints, none loaded"
        return KindReport(kind="weights", findings=tuple(findings), looked_at=looked_at)

    def _data(self) -> KindReport:
        lock = self._resolved.lock
        looked_at = f"{sum(data.rows for data in lock.data.values())} rows in {len(lock.data)} data sets"
        if self._reference is None and lock.data:
            return _nothing_to_compare("data", looked_at)
        if self._reference is None or not any(change.kind is ChangeKind.DATA for change in self._compared()):
            return KindReport(kind="data", looked_at=looked_at)
        from truerun.apps.inspecting_data import inspect_data

        changes = self._compared()
        findings = inspect_data(self._project, self._resolved, self._reference, changes, self._progress)
        return KindReport(kind="data", findings=(*check_data(changes, self._reference), *findings), looked_at=looked_at)

    def _traced(self, finding: Finding) -> Finding:
        """*finding* with the proposal that brought the change it is about: its signer and its entry."""
        if finding.actor is None and len(finding.evidence.get("changes", ())) > 1:
            return finding  # several people's changes: naming the newest would name the wrong one
        origin = self._origin(finding)
        if origin is None:
            return finding
        record, signer = origin
        location = dataclasses.replace(finding.location, entry=record.index)
        evidence = {**finding.evidence, "proposed": {"entry": record.index, "by": signer.id if signer else None}}
        # Rows keep their contributor: who proposed a lock is not who added the rows.
        actor = finding.actor if finding.subject.kind == "data" and finding.actor else signer or finding.actor
        return dataclasses.replace(finding, location=location, evidence=evidence, actor=actor)

    def _origin(self, finding: Finding) -> tuple[Recorded[LockProposed], Actor | None] | None:
        if self._reference is None or finding.location.entry is not None:
            return None
        wanted = next((change for change in self._compared() if change.id == finding.evidence.get("change")), None)
        contributor = finding.evidence.get("contributor")
        since = self._reference.entry or 0
        for record in reversed(self._project.history().all_proposals()):
            if record.index <= since and self._reference.approved and record.fact.lock == self._reference.lock.digest:
                break
            for change in record.fact.changes:
                if (wanted is not None and _same_change(change, wanted)) or _brought_rows(change, finding, contributor):
                    person = self._project.people().resolve(record.key, record.index)
                    return record, Actor(id=person.id, basis=Basis.SIGNED) if person else None
        return None


def _caused_by(finding: Finding, change: Change | None) -> Finding:
    """*finding* with the change that brought what it is about, where one is known."""
    if change is None:
        return finding
    evidence = {**finding.evidence, "change": change.id}
    return dataclasses.replace(finding, evidence=evidence, actor=finding.actor or change.actor)


def _same_change(a: Change, b: Change) -> bool:
    return (a.kind, a.name, a.key, to_json(a.after)) == (b.kind, b.name, b.key, to_json(b.after))


def _brought_rows(change: Change, finding: Finding, contributor: object) -> bool:
    if finding.subject.kind != "data" or change.kind is not ChangeKind.DATA or change.name != finding.subject.name:
        return False
    return change.action is Action.ROWS_ADDED and (contributor is None or change.key == contributor)


def _nothing_to_compare(kind: str, looked_at: str) -> KindReport:
    why = "no lock has been proposed or approved yet; run truerun lock"
    return KindReport(kind=kind, looked_at=looked_at, could_not_tell=why)


def _reason(error: TruerunError) -> str:
    got = f" (got {error.got})" if error.got is not None else ""
    return f"{error.message}{got}" + (f"; {error.next_step}" if error.next_step else "")


def _read_preload_file() -> str:
    try:
        with open(PRELOAD_FILE, encoding="utf-8", errors="replace") as stream:
            return stream.read(65536)
    except OSError:
        # Usually absent; where it may not be read, only root could have written it.
        return ""
