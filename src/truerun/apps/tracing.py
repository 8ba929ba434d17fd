"""Tracing: from a degraded run to the changes that explain it, by rerunning the project with some of them.

Finds the reference, lists what changed since, rebuilds and reruns (`apps/rerunning.py`), asks `attribution/` what that means,
records TraceFinished. Touches nothing in the working tree.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from truerun.adapters.workspace import Workspaces
from truerun.apps.comparing import compare_locks
from truerun.apps.project import Project
from truerun.apps.rerunning import Rerun, Reruns, cores_for
from truerun.attribution.candidates import Candidate, Lever, Link, candidates_of
from truerun.attribution.convict import Conviction, Question, convict
from truerun.attribution.laboratory import Subset
from truerun.attribution.posterior import Beliefs
from truerun.attribution.replay import Replayed, replay
from truerun.attribution.verdict import Case, Trial, attribute
from truerun.core.actor import Actor
from truerun.core.attribution import Attribution, RowSuspect, SourceSuspect
from truerun.core.change import Action, ChangeKind
from truerun.core.decision import Outcome
from truerun.core.declaration import MetricSection
from truerun.core.digest import Digest
from truerun.core.errors import InputError, StorageError, UsageError
from truerun.core.fact import LockProposed, TraceFinished
from truerun.core.lock import Lock
from truerun.core.run import Verdict
from truerun.ledger.history import History, Recorded, RunHistory
from truerun.ledger.signing import Signer

DRIFT = 0.1  # what one harmless change may do to the metric, in tolerances
REPLAY_PAYS_SECONDS = 60.0  # below this a full rerun costs hardly more than starting Python, and tells more
REPLAY_PAYS_RATIO = 8
MIN_TIMEOUT_SECONDS = 120.0
TIMEOUT_FACTOR = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """What to trace. None leaves the choice to us; `budget` bounds full reruns; `replay_steps` 0 switches replay off."""

    run: str
    against: str | None = None
    metric: str | None = None
    budget: int = 40
    replay_steps: int = 20
    parallel: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a trace is, for a progress bar: reruns made, the most there will be, what is being tried, most suspected."""

    done: int
    budget: int
    doing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The answer, the ledger entry that records it and how long it took."""

    attribution: Attribution
    candidates: tuple[Candidate, ...]
    entry: int | None
    seconds: float


OnProgress: TypeAlias = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Progress that nobody wants to see."""


def trace(project: Project, request: TraceRequest, signer: Signer | None, on_progress: OnProgress = silent) -> Traced:
    """
    Trace a run and, with a *signer*, record the answer.

    Raises UsageError for a run or metric that is not known, InputError where the reference's inputs are not stored here.
    """
    begun = time.monotonic()
    history = project.history()
    run = history.run(request.run)
    name, section = _metric(project, request.metric)
    against = history.run(request.against) if request.against else choose_reference(history, run, name, section)
    _require_traceable(run, against, name)
    links, locks, notes = links_between(project, history, _lock_of(against), _lock_of(run), before=run.started.index)
    commands = (against.started.fact.command, run.started.fact.command)
    candidates = candidates_of(links, locks, commands=commands)
    case = Case(
        run=run.id,
        against=against.id,
        metric=name,
        goal=section.goal,
        tolerance=section.tolerance,
        recorded_reference=_value(against, name),
        recorded_run=_value(run, name),
        notes=notes,
    )
    subject = _Subject(against=against, run=run, candidates=candidates, locks=locks)
    with new_scratch(project) as scratch:
        attribution, candidates = _attribute(project, request, case, subject, scratch=scratch, on_progress=on_progress)
    seconds = time.monotonic() - begun
    entry = None
    if signer is not None:
        fact = TraceFinished(attribution=attribution, seconds=round(seconds, 3), at=project.clock())
        entry = project.ledger.append(fact, signer).index
    return Traced(attribution=attribution, candidates=candidates, entry=entry, seconds=seconds)


def choose_reference(history: History, run: RunHistory, metric: str, section: MetricSection) -> RunHistory:
    """
    The run to compare with: the newest earlier one that passed on an approved lock and was better, else the best one before.

    Raises UsageError when no earlier run has the metric.
    """
    earlier = [
        item
        for item in history.runs.values()
        if item.started.index < run.started.index and item.started.fact.purpose == "run" and _value(item, metric) is not None
    ]
    if not earlier:
        raise UsageError(
            f"no run before {run.id} recorded {metric}", next_step="name one that was good: truerun trace RUN --against RUN"
        )
    sign = 1.0 if section.goal == "max" else -1.0
    value = _value(run, metric)
    good = [
        item
        for item in earlier
        if _is_approved(item) and (value is None or sign * ((_value(item, metric) or 0.0) - value) > section.tolerance)
    ]
    if good:
        return max(good, key=lambda item: item.started.index)
    return max(earlier, key=lambda item: (sign * (_value(item, metric) or 0.0), item.started.index))


def _is_approved(run: RunHistory) -> bool:
    decision, finished = run.started.fact.decision, run.finished
    passed = finished is not None and finished.fact.verdict is Verdict.PASS
    return passed and decision is not None and decision.outcome is Outcome.ALLOW


def _value(run: RunHistory, metric: str) -> float | None:
    return run.finished.fact.metrics.get(metric) if run.finished is not None else None


def _metric(project: Project, wanted: str | None) -> tuple[str, MetricSection]:
    metrics = project.declaration.metrics
    if not metrics:
        raise UsageError(
            f"{project.declaration_name} declares no metric to judge by",
            expected='[metrics.NAME] with goal = "max" or "min" and tolerance',
            next_step="declare the metric that got worse, the way the training logs it",
        )
    if wanted is not None and wanted not in metrics:
        raise UsageError(f"no metric {wanted!r} is declared", expected=", ".join(metrics))
    name = wanted or next(iter(metrics))
    return name, metrics[name]


def _require_traceable(run: RunHistory, against: RunHistory, metric: str) -> None:
    if run.id == against.id:
        raise UsageError("a run cannot be traced against itself", got=run.id, next_step="choose another --against")
    for item in (run, against):
        if item.started.fact.lock is None:
            raise InputError(f"run {item.id} has no lock, so what it used is not known", next_step="lock, then run again")
    if _value(against, metric) is None:
        raise UsageError(f"run {against.id} recorded no {metric}", next_step="choose another --against, or another --metric")


# What lies between the two locks


def links_between(
    project: Project, history: History, start: Digest, end: Digest, *, before: int
) -> tuple[list[Link], dict[Digest, Lock], tuple[str, ...]]:
    """
    The recorded changes from lock *start* to lock *end*, with every lock they name, and notes on what is not recorded.

    A lock that was never proposed comes after the last proposal before entry *before*. Raises InputError when a lock is not
    stored here.
    """
    notes: tuple[str, ...] = ()
    chain, last = history.chain(start, end), end
    if chain is None:
        proposals = [item for item in history.all_proposals() if item.index < before]
        last = proposals[-1].fact.lock if proposals else start
        chain = history.chain(start, last)
    records = chain or ()
    if chain is None:
        last = start
        notes = ("the locks between the two runs are not all recorded: the changes are one comparison of both ends",)
    links = [_link(record) for record in records]
    wanted = dict.fromkeys([start, *(digest for link in links for digest in (link.before, link.after)), last, end])
    locks = {digest: project.lock(digest) for digest in wanted}
    if last != end:
        changes = compare_locks(project, locks[last], locks[end]).changes
        known = _known_authors(history, before)
        changes = tuple(change if change.actor else change.attributed(known.get(change.id)) for change in changes)
        links.append(Link(entry=None, before=last, after=end, changes=changes))
    return links, locks, notes


def _link(record: Recorded[LockProposed]) -> Link:
    parent = record.fact.parent
    assert parent is not None, "a chain is made of parents"
    return Link(entry=record.index, before=parent, after=record.fact.lock, changes=record.fact.changes)


def _known_authors(history: History, before: int) -> dict[str, Actor | None]:
    """Who recorded exactly such a change anywhere in the history, the newest last."""
    return {
        change.id: change.actor for record in history.all_proposals() if record.index < before for change in record.fact.changes
    }


# The search


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """The two runs, what lies between them, and where it is tried out."""

    against: RunHistory
    run: RunHistory
    candidates: tuple[Candidate, ...]
    locks: dict[Digest, Lock]

    @property
    def reference_lock(self) -> Lock:
        return self.locks[_lock_of(self.against)]

    @property
    def run_lock(self) -> Lock:
        return self.locks[_lock_of(self.run)]


def _attribute(
    project: Project, request: TraceRequest, case: Case, subject: _Subject, *, scratch: Path, on_progress: OnProgress
) -> tuple[Attribution, tuple[Candidate, ...]]:
    workspaces = Workspaces(
        root=project.root,
        scratch=scratch,
        objects=project.objects,
        locks=subject.locks,
        reference=subject.reference_lock,
        run=subject.run_lock,
        candidates=subject.candidates,
        commands=(subject.against.started.fact.command, subject.run.started.fact.command),
        outputs=output_paths(project),
    )
    how = Rerun(
        metric=case.metric,
        parallel=cores_for(request.parallel),
        timeout_seconds=request.timeout_seconds or _timeout(subject),
        monitoring=project.declaration.monitoring,
    )
    candidates = workspaces.candidates
    reporter = _Reporter(candidates, request.budget, on_progress)
    reruns = Reruns(workspaces, scratch, how, reporter.start)
    reporter.positions = reruns.positions
    replayed = _replay(request, candidates, reruns, subject.against)
    conviction = convict(reruns, _question(request, case, reruns, replayed), reporter.round)
    sources, rows = _look_at_rows(project, subject, candidates, reruns.positions, conviction)
    trial = Trial(candidates=candidates, tried=reruns.positions, metric=case.metric, replayed=replayed)
    return attribute(case, trial, conviction, sources=sources, rows=rows), candidates


def _question(request: TraceRequest, case: Case, reruns: Reruns, replayed: Replayed | None) -> Question:
    count = len(reruns.positions)
    return Question(
        count=count,
        goal=case.goal,
        tolerance=case.tolerance,
        budget=request.budget,
        recorded_reference=case.recorded_reference,
        recorded_run=case.recorded_run,
        run_crashed=case.recorded_run is None,
        weights=tuple(replayed.weight(position) for position in range(count)) if replayed else (),
        closed=reruns.closed,
        drift=DRIFT * case.tolerance,
    )


def _replay(request: TraceRequest, candidates: tuple[Candidate, ...], reruns: Reruns, against: RunHistory) -> Replayed | None:
    """Replay only where it saves time: where a full rerun is much longer than the start and a few steps."""
    finished = against.finished
    if request.replay_steps <= 0 or finished is None or finished.fact.seconds < REPLAY_PAYS_SECONDS:
        return None
    if finished.fact.steps < REPLAY_PAYS_RATIO * request.replay_steps:
        return None
    # Other rows mean other batches: a replay of them would only say so.
    positions = [place for place, index in enumerate(reruns.positions) if candidates[index].lever is not Lever.ROWS]
    return replay(reruns, positions, request.replay_steps, reruns.closed)


def _lock_of(run: RunHistory) -> Digest:
    lock = run.started.fact.lock
    assert lock is not None
    return lock


def output_paths(project: Project) -> tuple[str, ...]:
    """What a run writes inside the project: not copied when it is rebuilt."""
    declaration = project.declaration
    named = (declaration.checkpoints.output, declaration.outputs.predictions if declaration.outputs else None)
    return tuple(path for path in named if path)


def _timeout(subject: _Subject) -> float:
    runs = (subject.against, subject.run)
    longest = max((run.finished.fact.seconds for run in runs if run.finished is not None), default=0.0)
    return max(MIN_TIMEOUT_SECONDS, TIMEOUT_FACTOR * longest)


class _Reporter:
    """Turns what the search does into Progress."""

    def __init__(self, candidates: tuple[Candidate, ...], budget: int, on_progress: OnProgress) -> None:
        self.candidates, self.budget, self.on_progress = candidates, budget, on_progress
        self.positions: tuple[int, ...] = ()
        self.suspected = ""

    def start(self, subset: Subset, number: int) -> None:
        what = "the reference" if not subset else f"the reference with {len(subset)} of the changes"
        self.on_progress(Progress(done=number - 1, budget=self.budget, doing=f"{what}{self.suspected}"))

    def round(self, used: int, beliefs: Beliefs | None) -> None:
        if beliefs is not None and len(self.positions) == beliefs.space.count:
            marginals = beliefs.marginals
            top = int(marginals.argmax())
            if marginals[top] >= 0.2:
                title = self.candidates[self.positions[top]].change.title()
                self.suspected = f"; most suspected so far: {title} ({marginals[top]:.0%})"
        self.on_progress(Progress(done=used, budget=self.budget, doing=self.suspected.removeprefix("; ")))


# Rows


def _look_at_rows(
    project: Project,
    subject: _Subject,
    candidates: tuple[Candidate, ...],
    tried: tuple[int, ...],
    conviction: Conviction,
) -> tuple[tuple[SourceSuspect, ...], tuple[RowSuspect, ...]]:
    """The rows of convicted data changes beside the reference's rows."""
    convicted = [candidates[tried[member]].change for member in conviction.members]
    changes = [item for item in convicted if item.kind is ChangeKind.DATA and item.action is Action.ROWS_ADDED]
    if not changes:
        return (), ()
    from truerun.apps.row_evidence import look_at

    seen = [look_at(project.objects, change, subject.reference_lock, subject.run_lock) for change in changes]
    return tuple(source for source, _ in seen), tuple(row for _, rows in seen for row in rows)


@contextmanager
def new_scratch(project: Project) -> Iterator[Path]:
    """A folder beside the objects, so that large files can be linked; removed at the end."""
    parent = project.folder / "trace"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        raise StorageError(
            f"cannot write {parent}: {error.strerror or error}", next_step="a trace needs room for copies of the project"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed is only space
