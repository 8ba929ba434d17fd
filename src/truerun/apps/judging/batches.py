"""Batches, judged: follows every pass over every data loader and asks the rules about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import WatchRequest
from truerun.monitoring.batch_coverage import Coverage
from truerun.monitoring.loading import Departure, Indices, LoaderSeen, PassSeen

MAX_OPEN = 256


class BatchesJudge(Judge):
    """Takes `loader`, `pass` and `batches` frames."""

    name = "batches"
    kinds = frozenset({"loader", "pass", "batches"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self._loaders: dict[tuple[Process, int], LoaderSeen] = {}
        self._passes: dict[tuple[Process, int], Coverage] = {}
        self._epochs: Counter[tuple[Process, int]] = Counter()
        self._departed: set[tuple[Process, int]] = set()

    def take(self, known: Process, frame: Frame) -> Findings:
        """One frame."""
        kind = frame.header["kind"]
        if kind == "loader":
            return self._on_loader(known, frame.header)
        if kind == "pass":
            return self._on_pass(known, frame.header)
        return self._on_batches(known, frame)

    def finish(self, processes: Sequence[Process]) -> Findings:
        """Passes that are still open were cut off with their process."""
        self._passes.clear()
        return ()

    def _on_loader(self, known: Process, header: Mapping[str, Any]) -> Findings:
        number = int(header["loader"])
        size = header["batch_size"]
        self._loaders[known, number] = LoaderSeen(
            number=number,
            rank=_rank(known),
            dataset=str(header["dataset"])[:200],
            sampler=str(header["sampler"])[:200],
            batch_sampler=str(header["batch_sampler"])[:200],
            batch_size=size if type(size) is int else None,
            drop_last=header["drop_last"] is True,
            workers=int(header["workers"]),
            indexed=header["indexed"] is True,
        )
        return ()

    def _on_pass(self, known: Process, header: Mapping[str, Any]) -> Findings:
        loader = self._loaders[known, int(header["loader"])]
        self._epochs[known, loader.number] += 1
        seen = PassSeen(
            loader=loader,
            epoch=self._epochs[known, loader.number],
            step=known.place(int(header["step"]))[0],
            rule=str(header["rule"]),
            sampler=str(header["sampler"])[:200],
            items=_count(header["items"]),
            samples=_count(header["samples"]),
            batch_size=_count(header["batch_size"]),
            drop_last=header["drop_last"] is True,
        )
        if len(self._passes) < MAX_OPEN:
            self._passes[known, int(header["pass"])] = Coverage(seen)
        return ()

    def _on_batches(self, known: Process, frame: Frame) -> Findings:
        header = frame.header
        key = (known, int(header["pass"]))
        coverage = self._passes[key]
        indices = _column(frame, "indices").astype(np.int64)
        step = known.place(int(header["step"]))[0]
        found = coverage.add(indices, step)
        differs = header["differs"]
        if differs is not None and key not in self._departed:
            self._departed.add(key)
            departure = Departure(at=int(differs["at"]), expected=_few(differs["expected"]), given=_few(differs["given"]))
            found += coverage.check_order(departure, step)
        if header["end"] is not None:
            found += coverage.end(step, complete=header["end"] == "complete")
            self._departed.discard(key)
            del self._passes[key]
        return found


def _rank(known: Process) -> int:
    """The rank, also of a process that has not stepped yet."""
    named = str(known.hello.get("rank") or "")
    return known.rank if known.rank is not None else int(named) if named.isdigit() else 0


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _few(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values[:8])


def _column(frame: Frame, name: str) -> Indices:
    kind, data = frame.buffers[name]
    return np.frombuffer(data, f"<{kind}")
