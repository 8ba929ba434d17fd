"""Batches, judged: follows every pass over every data loader and asks the rules about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.declared_labels import LabelColumns
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.judging.loader_habits import LoaderHabits
from truerun.apps.judging.loader_workers import EndedPass, LoaderWorkers
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.monitoring.batch_content import Collated, Exchange, LabelWatch, check_collated, check_item
from truerun.monitoring.batch_coverage import RULE as COVERAGE
from truerun.monitoring.batch_coverage import Coverage, check_same_epoch, check_shares, check_unindexed
from truerun.monitoring.loading import Departure, Indices, LoaderSeen, PassSeen, ShareSeen
from truerun.monitoring.observation import Numbers

MAX_OPEN, MAX_WAITING = 256, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTook:
    """A batch whose labels in the loss are not all those of the loader; `first_field` says that the likeliest field is meant."""

    indices: Indices
    labels: Numbers
    targets: Numbers
    first_field: bool
    step: int


@dataclass(slots=True, eq=False)
class Loader:
    """One kind of loader of one process and what follows it. `rows` are the items of the whole that its data set has."""

    seen: LoaderSeen
    loss: Exchange
    labels: list[LabelWatch] = field(default_factory=list)
    rows: Indices | None = None
    passes: int = 0
    trained: bool = False
    share: ShareSeen | None = None
    waiting: list[LossTook] = field(default_factory=list)

    def rows_of(self, indices: Indices) -> Indices:
        """The rows of the whole data set that *indices* stand for, -1 for an index that it does not have."""
        if self.rows is None:
            return indices
        outside = (indices < 0) | (indices >= len(self.rows))
        return np.where(outside, -1, self.rows[np.where(outside, 0, indices)])

    @property
    def confirmed(self) -> LabelWatch | None:
        """The comparison with a declared column that has proved to be one, if any."""
        return next((watch for watch in self.labels if watch.confirmed), None)

    @property
    def undecided(self) -> bool:
        """Whether a declared column may still prove to be the one."""
        return self.confirmed is None and any(not watch.hopeless for watch in self.labels) and self.passes < 2


@dataclass(slots=True, eq=False)
class Open:
    """
    A pass that has not ended: its coverage, the seed `base` of its workers, and how many labels were compared and wrong.

    It counts as `training` once `backward` has run after its first batch, which was after `backwards` calls.
    """

    coverage: Coverage
    loader: Loader
    base: str
    backwards: int | None = None
    training: bool = False
    departed: bool = False
    compared: int = 0
    wrong: int = 0


class BatchesJudge(Judge):
    """Takes what the sense of the same name hands over: loaders, passes, batches, and labels that the loss took."""

    name = "batches"
    kinds = frozenset({"loader", "root", "pass", "batches", "targets", "worker", "collated", "item"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self._columns = LabelColumns(request.data)
        self._loaders: dict[tuple[Process, int], Loader] = {}
        self._open: dict[tuple[Process, int], Open] = {}
        self._workers = LoaderWorkers()
        self._habits: dict[Process, LoaderHabits] = {}
        self._shares: dict[tuple[int, int, int | None], ShareSeen] = {}
        self._collates: dict[tuple[str, str, int], Exchange] = {}

    def take(self, known: Process, frame: Frame) -> Findings:
        """One frame."""
        header = frame.header
        if header["kind"] == "worker":
            self._workers.take(header)
            return self._workers.judge()
        if header["kind"] == "collated":
            return self._on_collated(known, frame)
        number = int(header["loader"])
        if header["kind"] == "loader":
            seen = _parse_loader(known, number, header)
            self._loaders[known, number] = Loader(seen, Exchange(seen.title, "the loss", seen.rank))
            return check_unindexed(seen) if not seen.indexed else ()
        loader = self._loaders[known, number]
        if header["kind"] == "root":
            return self._on_root(loader, frame)
        if header["kind"] == "pass":
            return self._on_pass(known, loader, header)
        if header["kind"] == "item":
            step = known.place(int(header["step"]))[0]
            return check_item(loader.seen, int(header["index"]), int(header["field"]), step)
        if header["kind"] == "targets":
            return self._on_targets(known, loader, frame)
        found = self._on_batches(known, loader, frame)
        if self.request.monitoring.duplicate_batches:  # the audit itself gives some batches in place of others
            return tuple(finding for finding in found if finding.rule != COVERAGE.id)
        return found

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """Whether a state was loaded before the first step."""
        if record.step == known.offset + 1:
            self._habits.setdefault(known, LoaderHabits(self.request)).loaded = "load_state_dict" in notes
        return ()

    def finish(self, processes: Sequence[Process]) -> Findings:
        """Passes that are still open were cut off with their process."""
        self._open.clear()
        found = self._workers.judge(everything=True)
        for loader in self._loaders.values():
            found += self._judge_losses(loader)
        return found

    def learned(self) -> Mapping[str, Any]:
        """The loaders of rank 0."""
        first = next((habits for known, habits in self._habits.items() if known.rank in (0, None)), None)
        return first.learned() if first is not None else {}

    def _on_root(self, loader: Loader, frame: Frame) -> Findings:
        items = _count(frame.header["items"])
        loader.rows = _column(frame, "rows").astype(np.int64) if "rows" in frame.buffers else None
        loader.labels = [LabelWatch(loader.seen, column) for column in self._columns.of_length(items)]
        return ()

    def _on_pass(self, known: Process, loader: Loader, header: Mapping[str, Any]) -> Findings:
        loader.passes += 1
        seen = PassSeen(
            loader=loader.seen,
            epoch=loader.passes,
            step=known.place(int(header["step"]))[0],
            rule=str(header["rule"]),
            sampler=str(header["sampler"])[:200],
            items=_count(header["items"]),
            samples=_count(header["samples"]),
            batch_size=_count(header["batch_size"]),
            drop_last=header["drop_last"] is True,
        )
        if len(self._open) < MAX_OPEN:
            self._open[known, int(header["pass"])] = Open(Coverage(seen), loader, str(header["base"])[:40])
        share = _parse_share(header) if seen.rule == "share" else None
        if share is None:
            return ()
        before, loader.share = loader.share, share
        other = self._shares.setdefault((loader.seen.number, loader.passes, seen.items), share)
        found = check_shares(seen, other, share, seen.step)
        # A pass without training may well be the same each time.
        return found + check_same_epoch(seen, before, share, seen.step) if before is not None and loader.trained else found

    def _on_batches(self, known: Process, loader: Loader, frame: Frame) -> Findings:
        header = frame.header
        key = (known, int(header["pass"]))
        opened = self._open[key]
        coverage = opened.coverage
        indices = _column(frame, "indices").astype(np.int64)
        step = known.place(int(header["step"]))[0]
        found = coverage.add(indices, step)
        differs = header["differs"]
        if differs is not None and not opened.departed:
            opened.departed = True
            departure = Departure(at=int(differs["at"]), expected=_few(differs["expected"]), given=_few(differs["given"]))
            found += coverage.check_order(departure, step)
        labels = _column(frame, "labels")
        if len(labels) and len(labels) == len(indices):
            found += self._compare(opened, indices, labels, step)
        counted = _column(frame, "backwards")
        if opened.backwards is None and len(counted):
            opened.backwards = int(counted[0])
        opened.training = opened.backwards is not None and int(header["backwards_now"]) > opened.backwards
        loader.trained = loader.trained or opened.training
        habits = self._habits.setdefault(known, LoaderHabits(self.request))
        # The first step's record says whether a checkpoint was loaded; it may come a little later than its batch.
        if known.steps or header["end"] is not None:
            found += habits.look(coverage, step, training=opened.training, end=header["end"])
        if header["end"] is not None:
            if loader.seen.workers > 1:
                self._workers.ended(_ended(known, opened, step))
                found += self._workers.judge()
            found += coverage.end(step, complete=header["end"] == "complete")
            if loader.confirmed is not None:
                found += loader.confirmed.end(step, coverage.seen.epoch, opened.compared, opened.wrong)
            del self._open[key]
        if loader.waiting and (header["end"] is not None or not loader.undecided):
            found += self._judge_losses(loader)
        return found

    def _compare(self, opened: Open, indices: Indices, labels: Numbers, step: int) -> Findings:
        loader = opened.loader
        rows = loader.rows_of(indices)
        found: Findings = ()
        for watch in [loader.confirmed] if loader.confirmed is not None else loader.labels:
            compared, wrong = watch.compared, watch.wrong
            found += watch.add(rows, labels, step, opened.coverage.seen.epoch)
            opened.compared += watch.compared - compared
            opened.wrong += watch.wrong - wrong
        return found

    def _on_targets(self, known: Process, loader: Loader, frame: Frame) -> Findings:
        columns = {name: _column(frame, name) for name in ("indices", "labels", "targets")}
        if len({len(column) for column in columns.values()}) > 1 or len(loader.waiting) >= MAX_WAITING:
            return ()
        took = LossTook(
            indices=columns["indices"].astype(np.int64),
            labels=columns["labels"],
            targets=columns["targets"],
            first_field=frame.header["first_field"] is True,
            step=known.place(int(frame.header["step"]))[0],
        )
        loader.waiting.append(took)
        return () if loader.undecided else self._judge_losses(loader)

    def _judge_losses(self, loader: Loader) -> Findings:
        found: Findings = ()
        for took in loader.waiting:
            # Whether these are the labels of that batch at all has to show first.
            changed = loader.loss.check(took.labels, took.targets, took.step)
            if changed and loader.confirmed is not None and took.first_field:
                changed = loader.confirmed.check_loss(loader.rows_of(took.indices), took.targets, took.step)
            found += changed
        loader.waiting.clear()
        return found

    def _on_collated(self, known: Process, frame: Frame) -> Findings:
        header = frame.header
        collate, dataset, rank = str(header["collate"])[:200], str(header["dataset"])[:200], _rank(known)
        step, items = known.place(int(header["step"]) + 1)[0], int(header["items"])
        if "field" not in header:
            counts = {"rows": int(header["rows"]), "into": int(header["in"]), "out_of": int(header["out"])}
            return check_collated(Collated(collate=collate, dataset=dataset, items=items, **counts), step, rank)
        labels, targets = _column(frame, "labels"), _column(frame, "targets")
        key = (f"{collate} of {dataset}", str(header["field"]), rank)
        if len(labels) != len(targets) or (key not in self._collates and len(self._collates) >= MAX_OPEN):
            return ()
        taker = f"the batch of {collate}"
        exchange = self._collates.setdefault(key, Exchange(f"data set {dataset}", taker, rank, exact=header["default"] is True))
        return exchange.check(labels, targets, step)


def _ended(known: Process, opened: Open, step: int) -> EndedPass:
    seen = opened.loader.seen
    return EndedPass(pid=known.pid, base=opened.base, loader=seen.title, rank=seen.rank, step=step, training=opened.training)


def _rank(known: Process) -> int:
    """The rank; loaders are met before the first step, which is when a process without RANK gets its place."""
    named = str(known.hello.get("rank") or "")
    return known.rank if known.rank is not None else int(named) if named.isdigit() else 0


def _parse_loader(known: Process, number: int, header: Mapping[str, Any]) -> LoaderSeen:
    return LoaderSeen(
        number=number,
        rank=_rank(known),
        dataset=str(header["dataset"])[:200],
        sampler=str(header["sampler"])[:200],
        batch_sampler=str(header["batch_sampler"])[:200],
        batch_size=_count(header["batch_size"]),
        drop_last=header["drop_last"] is True,
        workers=int(header["workers"]),
        indexed=header["indexed"] is True,
    )


def _parse_share(header: Mapping[str, Any]) -> ShareSeen:
    numbers = {name: int(header[name]) for name in ("rank", "replicas", "seed", "epoch")}
    return ShareSeen(**numbers, shuffled=header["shuffled"] is True)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _few(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values[:8])


def _column(frame: Frame, name: str) -> Numbers:
    kind, data = frame.buffers[name]
    return np.frombuffer(data, f"<{kind}")
