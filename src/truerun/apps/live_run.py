"""A run as it goes on, read from the files of its folder: how far, how fast, which curves, what was found. Nothing is written.

Reads what was appended since the last look, whole lines only, so a look costs little and a line half written waits. Cannot
know of a run whose agent was killed on another host: it looks as if it were silent.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truerun.core.codec import from_json, to_json
from truerun.core.errors import FormatError
from truerun.core.finding import Finding

FIRST_READ_BYTES = 64 * 1024 * 1024
BINS = 256
RATE_SECONDS = 30.0
MAX_CURVES = 64


@dataclass(slots=True)
class Curve:
    """
    One series in at most BINS bins; when they are full, neighbours are joined, so that memory is bounded and no value is lost.

    A bin is [first step, sum, count]; what is not finite is counted in `odd` and leaves its bin empty.
    """

    bins: list[list[float]] = field(default_factory=list)
    width: int = 1
    first: float | None = None
    last: float | None = None
    least: float = math.inf
    most: float = -math.inf
    odd: int = 0

    def add(self, step: int, value: float) -> None:
        """Take one value; steps come in order."""
        self.last = value
        self.first = value if self.first is None else self.first
        finite = math.isfinite(value)
        if finite:
            self.least, self.most = min(self.least, value), max(self.most, value)
        self.odd += not finite
        if not self.bins or step >= self.bins[-1][0] + self.width:
            if len(self.bins) >= BINS:
                self._join()
            self.bins.append([step, 0.0, 0])
        if finite:
            self.bins[-1][1] += value
            self.bins[-1][2] += 1

    def _join(self) -> None:
        self.width *= 2
        pairs = zip(self.bins[::2], self.bins[1::2], strict=False)
        self.bins = [[a[0], a[1] + b[1], a[2] + b[2]] for a, b in pairs]

    def points(self, wanted: int = BINS) -> list[tuple[int, float]]:
        """At most *wanted* means in the order of steps, each with its first step; NaN where no value of it was finite."""
        size = max(1, math.ceil(len(self.bins) / wanted))
        groups = [self.bins[at : at + size] for at in range(0, len(self.bins), size)]
        counts = [sum(one[2] for one in group) for group in groups]
        return [
            (int(group[0][0]), sum(one[1] for one in group) / count if count else math.nan)
            for group, count in zip(groups, counts, strict=True)
        ]


class _Tail:
    """The lines that were appended to one file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at: int | None = None
        self._rest = b""

    def read(self) -> Iterator[Any]:
        """Each new whole line as JSON; a line that is none is left out."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                skipped = self._at is None and size > FIRST_READ_BYTES
                self._at = max(0, size - FIRST_READ_BYTES) if self._at is None else self._at
                file.seek(self._at)
                data = self._rest + file.read(FIRST_READ_BYTES)
                self._at = file.tell()
        except OSError:  # not there yet
            return
        *lines, self._rest = data.split(b"\n")
        for line in lines[1:] if skipped else lines:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


class LiveRun:
    """What the folder of a run says so far; `update` looks again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start: Mapping[str, Any] = {}
        self.result: Mapping[str, Any] | None = None
        self.curves: dict[str, Curve] = {}
        self.reach: dict[int, int] = {}
        self.checked = self.recorded = 0
        self.seconds = self.spent = 0.0
        self._findings: dict[str, Finding] = {}
        self._marks: list[tuple[float, int]] = []
        self._tails: dict[str, _Tail] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Worst first, then by step."""
        return tuple(sorted(self._findings.values(), key=lambda item: (-item.severity.rank, item.location.step or 0)))

    @property
    def state(self) -> str:
        """`running`, the verdict of a run that has ended, or `lost`: its agent is gone and left no verdict."""
        if self.result is not None:
            return str(self.result.get("verdict", "ended"))
        agent = self.start.get("agent")
        if isinstance(agent, dict) and agent.get("host") == os.uname().nodename and not _lives(agent.get("pid")):
            return "lost"
        return "running"

    @property
    def step(self) -> int:
        """Optimizer steps of rank 0."""
        return self.reach.get(0, 0)

    @property
    def rate(self) -> float | None:
        """Steps a second: lately while it runs, on the whole once it has ended; None before there is anything to divide."""
        if not self._marks:
            return None
        (end, steps), (begin, before) = self._marks[-1], (0.0, 0)
        if self.result is None:
            begin, before = next((mark for mark in self._marks if mark[0] >= end - RATE_SECONDS), self._marks[0])
            begin, before = (begin, before) if end > begin else (0.0, 0)
        return (steps - before) / (end - begin) if end > begin else None

    def silent_seconds(self, now: float) -> float:
        """How long nothing was written, at *now* (seconds since the epoch); 0 before the first word."""
        with contextlib.suppress(OSError, ValueError):
            return max(0.0, now - max(path.stat().st_mtime for path in self.folder.glob("*.jsonl")))
        return 0.0

    def update(self) -> None:
        """Read what is new."""
        self.start = self.start or self._whole("start.json") or {}
        self.result = self.result or self._whole("result.json")
        for data in (self.start.get("findings", ()), (self.result or {}).get("findings", ())):
            for finding in data:
                self._found(finding)
        for path in sorted(self.folder.glob("steps-rank*.jsonl")):
            rank = path.stem.removeprefix("steps-rank")
            if rank.isdigit():
                self._steps(int(rank), path.name)
        for point in self._new("metrics.jsonl"):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                if int(point.get("rank", 0)) == 0:
                    self._curve(str(point["name"]), int(point["step"]), float(point["value"]))
        for finding in self._new("findings.jsonl"):
            self._found(finding)
        for mark in self._new("progress.jsonl"):
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                self._progress(mark)

    def as_json(self) -> dict[str, Any]:
        """The state as a value, for programs: `truerun watch --format json`."""
        return {
            "schema": 1,
            "run": self.folder.name,
            "state": self.state,
            "command": list(self.start.get("command", ())),
            "mode": self.start.get("mode"),
            "started": self.start.get("at"),
            "seconds": self.seconds,
            "step": self.step,
            "steps_per_second": self.rate,
            "ranks": {str(rank): step for rank, step in sorted(self.reach.items())},
            "checked": self.checked,
            "overhead": {"seconds": self.spent, "fraction": self.spent / self.seconds if self.seconds else 0.0},
            "curves": {name: _curve_json(curve) for name, curve in self.curves.items()},
            "findings": to_json(self.findings),
        }

    # Pieces.

    def _whole(self, name: str) -> Mapping[str, Any] | None:
        with contextlib.suppress(OSError, ValueError):
            value = json.loads((self.folder / name).read_text(encoding="utf-8"))
            return value if isinstance(value, dict) else None
        return None

    def _new(self, name: str) -> Iterator[dict[str, Any]]:
        for value in self._tails.setdefault(name, _Tail(self.folder / name)).read():
            if isinstance(value, dict):
                yield value

    def _steps(self, rank: int, name: str) -> None:
        for record in self._new(name):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                step = int(record["step"])
                self.reach[rank] = max(self.reach.get(rank, 0), step)
                self.recorded += rank == 0
                self.checked += rank == 0 and bool(record.get("checked"))
                for curve, value in (("loss", record.get("loss")), ("lr", record.get("lr"))):
                    if rank == 0 and value is not None and record.get("optimizer") == 0:
                        self._curve(curve, step, float(value))

    def _curve(self, name: str, step: int, value: float) -> None:
        if name in self.curves or len(self.curves) < MAX_CURVES:
            self.curves.setdefault(name, Curve()).add(step, value)

    def _found(self, data: Any) -> None:
        with contextlib.suppress(FormatError):
            finding = from_json(Finding, data)
            self._findings[finding.fingerprint] = finding

    def _progress(self, mark: Mapping[str, Any]) -> None:
        self.seconds, self.spent = float(mark["seconds"]), float(mark["spent"])
        for rank, step in mark["steps"].items():
            self.reach[int(rank)] = max(self.reach.get(int(rank), 0), int(step))
        self._marks.append((self.seconds, int(mark["steps"].get("0", 0))))
        self._marks = [one for one in self._marks if one[0] >= self.seconds - 2 * RATE_SECONDS]


def _curve_json(curve: Curve) -> dict[str, Any]:
    points = [[step, value if math.isfinite(value) else None] for step, value in curve.points()]
    bounds = {"least": curve.least, "most": curve.most} if curve.least <= curve.most else {"least": None, "most": None}
    last = curve.last if curve.last is not None and math.isfinite(curve.last) else None
    return {"last": last, **bounds, "not_finite": curve.odd, "points": points}


def _lives(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError):  # somebody else's process, or no number: nothing is known
        return True
    return True
