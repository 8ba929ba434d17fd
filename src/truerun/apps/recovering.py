"""Going back: the newest inputs without the convicted changes, proposed, or written into the working tree and locked.

Rows are set aside in `.truerun/quarantine/` with the reason for each, and kept in the object store; `undo_recovery` puts
everything back. Files with edits that no lock records are never overwritten. Order of `apply_recovery`: quarantine, working
tree, LockProposed, RecoveryApplied; cut short, running it again completes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from truerun.adapters.config_reverts import revert_keys
from truerun.adapters.files import hash_file
from truerun.adapters.objects import write_whole
from truerun.adapters.workspace import Workspaces
from truerun.apps.comparing import compare_locks
from truerun.apps.locking import Resolved, record_lock, resolve
from truerun.apps.project import Project
from truerun.apps.rerunning import Rerun, Reruns
from truerun.apps.tracing import links_between, new_scratch, output_paths
from truerun.attribution.candidates import candidates_of
from truerun.core.attribution import Attribution
from truerun.core.change import Change
from truerun.core.decision import Decision
from truerun.core.digest import Digest
from truerun.core.errors import InputError, UsageError
from truerun.core.fact import RecoveryApplied, TraceFinished
from truerun.core.lock import Lock
from truerun.ledger.entry import Entry
from truerun.ledger.history import Recorded
from truerun.ledger.signing import Signer
from truerun.oversight.admission import decide_admission
from truerun.response.recovery import RecoveryPlan, plan_recovery

if TYPE_CHECKING:
    from truerun.attribution.laboratory import Measurement

QUARANTINE = "quarantine"
RERUN_TIMEOUT_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """
    The clean state, rebuilt in `folder`: `traced` is the run's lock, `head` is the newest lock, `clean` what the clean files resolve to, `changes` lead
    from the one to the other. `writes` and `deletes` are paths in the working tree.
    """

    run: str
    attribution: Attribution
    plan: RecoveryPlan
    traced: Lock
    head: Lock
    clean: Resolved
    changes: tuple[Change, ...]
    folder: Path
    writes: tuple[str, ...]
    deletes: tuple[str, ...]
    reruns: Reruns


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was written: the clean lock, its proposal's and the recovery's entry, quarantine tables, and what approval it needs."""

    lock: Lock
    proposal: int | None
    entry: Entry
    quarantine: Mapping[str, Path]
    decision: Decision


@contextmanager
def propose_recovery(project: Project, run: str) -> Iterator[Proposal]:
    """
    The clean state for *run*, in a folder that is gone afterwards.

    Raises UsageError when the run was not traced or nothing was singled out, InputError when inputs are not stored here.
    """
    history = project.history()
    found = history.run(run)
    record = _trace_of(history.traces, found.id)
    attribution = record.fact.attribution
    against = history.run(attribution.against)
    newest = project.newest_proposal()
    if newest is None:
        raise UsageError("no lock was ever proposed", next_step="truerun lock")
    start = against.started.fact.lock
    if start is None:
        raise InputError(f"run {against.id} has no lock, so what it used is not known")
    links, locks, _ = links_between(project, history, start, newest.fact.lock, before=newest.index + 1)
    head = project.lock(newest.fact.lock)
    commands = (against.started.fact.command, found.started.fact.command)
    with new_scratch(project) as scratch:
        workspaces = Workspaces(
            root=project.root,
            scratch=scratch,
            objects=project.objects,
            locks={**locks, start: project.lock(start), newest.fact.lock: head},
            reference=project.lock(start),
            run=head,
            candidates=candidates_of(links, locks),
            commands=commands,
            outputs=output_paths(project),
        )
        plan = plan_recovery(attribution, workspaces.candidates)
        folder = workspaces.build(plan.keep, "clean").folder
        _write_head_texts(project, workspaces, head, folder, locks)
        clean = resolve(_elsewhere(project, folder))
        changes = compare_locks(project, head, clean.lock, clean.fetch).changes
        writes, deletes = _files_that_differ(head, clean.lock)
        if not writes and not deletes:
            raise UsageError(
                f"what the trace of {found.id} convicted is taken back already",
                next_step=f"truerun recover {found.id} --undo puts it back",
            )
        how = Rerun(
            metric=str((attribution.metric or {}).get("name")),
            parallel=1,
            timeout_seconds=RERUN_TIMEOUT_SECONDS,
            monitoring=project.declaration.monitoring,
        )
        yield Proposal(
            run=found.id,
            attribution=attribution,
            plan=plan,
            traced=project.lock(found.started.fact.lock) if found.started.fact.lock else head,
            head=head,
            clean=clean,
            changes=changes,
            folder=folder,
            writes=writes,
            deletes=deletes,
            reruns=Reruns(workspaces, scratch, how, _silent),
        )


def rerun_clean(proposal: Proposal) -> Measurement:
    """Train on the clean state in its own folder; nothing is recorded."""
    places = {index: place for place, index in enumerate(proposal.reruns.positions)}
    [measured] = proposal.reruns.measure([frozenset(places[index] for index in proposal.plan.keep)])
    return measured


def apply_recovery(project: Project, proposal: Proposal, signer: Signer) -> Applied:
    """
    Write the clean files into the working tree, lock them and record the recovery.

    Raises UsageError when a file to be written has edits that no lock records.
    """
    _require_recorded(project, proposal)
    tables = _set_aside(project, proposal)
    for path in proposal.writes:
        _copy_into(proposal.folder / path, project.root / path)
    for path in proposal.deletes:
        (project.root / path).unlink(missing_ok=True)
    recorded = record_lock(project, resolve(project), signer, f"recovery of {proposal.run}: without what its trace convicted")
    fact = RecoveryApplied(
        run=proposal.run,
        lock=recorded.lock.digest,
        removed=(*proposal.plan.removed, *proposal.plan.along),
        at=project.clock(),
        quarantine={name: project.objects.put_file(path) for name, path in tables.items()},
    )
    entry = project.ledger.append(fact, signer)
    decision = decide_admission(recorded.lock, project.history(), project.people(), lock_of=project.lock)
    return Applied(
        lock=recorded.lock,
        proposal=recorded.entry.index if recorded.entry else None,
        entry=entry,
        quarantine=tables,
        decision=decision,
    )


def undo_recovery(project: Project, run: str, signer: Signer) -> Lock:
    """Put back what the newest recovery of *run* took out, and lock that; raises UsageError when there is none to undo."""
    history = project.history()
    found = history.run(run)
    recoveries = [record for record in history.recoveries if record.fact.run == found.id]
    if not recoveries:
        raise UsageError(f"no recovery of {found.id} is recorded", next_step=f"truerun recover {found.id} --apply makes one")
    clean = project.lock(recoveries[-1].fact.lock)
    proposed = [record for record in history.proposals.get(clean.digest, ()) if record.index < recoveries[-1].index]
    if not proposed or proposed[-1].fact.parent is None:
        raise UsageError("the lock before the recovery is not recorded", next_step="truerun diff shows what there is")
    before = project.lock(proposed[-1].fact.parent)
    writes, deletes = _files_that_differ(clean, before)
    _require_same(project, clean, (*writes, *deletes))
    files = _files(before)
    for path in writes:
        data = project.objects.read(files[path])
        write_whole(project.root / path, lambda stream, data=data: stream.write(data))  # type: ignore[misc]
    for path in deletes:
        (project.root / path).unlink(missing_ok=True)
    return record_lock(project, resolve(project), signer, f"undo the recovery of {found.id}").lock


def _silent(subset: frozenset[int], number: int) -> None:
    """Nobody watches single reruns here."""


def _trace_of(traces: Sequence[Recorded[TraceFinished]], run: str) -> Recorded[TraceFinished]:
    found = [record for record in traces if record.fact.attribution.run == run]
    if not found:
        raise UsageError(f"run {run} was not traced yet", next_step=f"truerun trace {run}")
    return found[-1]


def _write_head_texts(project: Project, workspaces: Workspaces, head: Lock, folder: Path, locks: Mapping[Digest, Lock]) -> None:
    """Configuration with its comments as in *head*, only the keys taken back; the declaration as it is now."""
    for path, config in head.config.items():
        built = folder / path
        if built.is_file() and hash_file(built) != config.file.digest:
            older = [lock.config[path].file.digest for lock in reversed(list(locks.values())) if path in lock.config]
            texts = [project.objects.read(digest) for digest in dict.fromkeys(older)]
            built.write_bytes(revert_keys(project.objects.read(config.file.digest), built.read_bytes(), texts, path))
    (folder / project.declaration_name).write_bytes(project.declaration_bytes)


def _elsewhere(project: Project, folder: Path) -> Project:
    """The same declaration over the files in *folder*."""
    return Project(
        folder,
        declaration_name=project.declaration_name,
        declaration_bytes=project.declaration_bytes,
        declaration=project.declaration,
    )


def _files(lock: Lock) -> dict[str, Digest]:
    """Every file of *lock* inside the project that a recovery may write."""
    files = {path: file.digest for path, file in (*lock.code.items(), *lock.checkpoints.items())}
    files |= {path: config.file.digest for path, config in lock.config.items()}
    files |= {file.path: file.digest for data in lock.data.values() for file in data.files}
    return {path: digest for path, digest in files.items() if not os.path.isabs(path) and ".." not in path.split("/")}


def _files_that_differ(old: Lock, new: Lock) -> tuple[tuple[str, ...], tuple[str, ...]]:
    before, after = _files(old), _files(new)
    writes = tuple(sorted(path for path, digest in after.items() if before.get(path) != digest))
    return writes, tuple(sorted(set(before) - set(after)))


def _require_recorded(project: Project, proposal: Proposal) -> None:
    _require_same(project, proposal.head, (*proposal.writes, *proposal.deletes))


def _require_same(project: Project, lock: Lock, paths: Sequence[str]) -> None:
    """Raise UsageError where a file to be overwritten is not as *lock* has it."""
    files = _files(lock)
    edited = [
        path
        for path in paths
        if (project.root / path).is_file() and (path not in files or hash_file(project.root / path) != files[path])
    ]
    if edited:
        raise UsageError(
            "files that would be written have edits that no lock records",
            got=", ".join(edited[:5]),
            next_step="truerun lock records them; or restore the files first",
        )


def _copy_into(source: Path, target: Path) -> None:
    data = source.read_bytes()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    write_whole(target, lambda stream: stream.write(data), mode=mode)


def _set_aside(project: Project, proposal: Proposal) -> dict[str, Path]:
    """Write the rows taken out, with row number and reason, one table a data set."""
    changes = proposal.plan.quarantined
    if not changes:
        return {}
    from truerun.apps.row_evidence import quarantine_table

    folder = project.folder / QUARANTINE / proposal.run
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in sorted({change.name for change in changes}):
        mine = [change for change in changes if change.name == name]
        path = folder / f"{name}.parquet"
        # Row numbers of the trace are those of the traced run; where rows have moved since, only the change is named.
        same = proposal.traced.data[name].row_digests == proposal.head.data[name].row_digests
        rows = proposal.attribution.rows if same else ()
        quarantine_table(project.objects, proposal.head, name, mine, rows).write_parquet(path)
        tables[name] = path
    return tables
