"""The files of one run, `.truerun/runs/<run id>/`: append-only, a JSON value a line, safe to read while the run goes on.

`steps-rank<N>.jsonl` (one line an optimizer step), `metrics.jsonl`, `findings.jsonl`, `progress.jsonl` (one line every few
seconds: how far it is and what watching has cost). When the disk is full or the folder
cannot be written, the run goes on and `trouble` says since when; nothing is written after that, so no file has a hole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from truerun.core.codec import to_json
from truerun.core.digest import Digest
from truerun.core.finding import Finding
from truerun.core.run import MetricPoint


class RunFiles:
    """Writers for one run's folder. `digest` and `size` of a rank's step file cover its bytes so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trouble: str | None = None
        self._open: dict[str, IO[bytes]] = {}
        self._hashes: dict[int, tuple[Any, int]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._stop(error)

    def step(self, rank: int, record: dict[str, Any]) -> None:
        """Append one step record of *rank*."""
        line = self._append(f"steps-rank{rank}.jsonl", record)
        running, size = self._hashes.get(rank) or (hashlib.sha256(), 0)
        running.update(line)
        self._hashes[rank] = (running, size + len(line))

    def metric(self, point: MetricPoint, rank: int) -> None:
        """Append one value of one metric."""
        self._append("metrics.jsonl", {**to_json(point), "rank": rank})

    def finding(self, finding: Finding) -> None:
        """Append one finding."""
        self._append("findings.jsonl", to_json(finding))
        self.flush()

    def progress(self, seconds: float, reach: Mapping[int, int], spent: float) -> None:
        """Append how far each rank had come after *seconds*, and what watching had cost rank 0 by then (seconds)."""
        steps = {str(rank): step for rank, step in sorted(reach.items())}
        self._append("progress.jsonl", {"seconds": round(seconds, 3), "steps": steps, "spent": round(spent, 6)})

    def records(self, rank: int) -> tuple[Digest, int]:
        """SHA-256 and size in bytes of what was appended to the step file of *rank* so far."""
        running, size = self._hashes.get(rank) or (hashlib.sha256(), 0)
        return Digest("sha256", running.hexdigest()), size

    def flush(self) -> None:
        """Hand what was appended to the operating system."""
        for stream in self._open.values():
            try:
                stream.flush()
            except OSError as error:
                self._stop(error)
                return

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        for stream in self._open.values():
            try:
                stream.close()
            except OSError as error:
                self._stop(error)
        self._open = {}

    def _append(self, name: str, value: dict[str, Any]) -> bytes:
        line = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        if self.trouble is None:
            try:
                if name not in self._open:
                    self._open[name] = (self.folder / name).open("ab")
                self._open[name].write(line)
            except OSError as error:
                self._stop(error)
        return line

    def _stop(self, error: OSError) -> None:
        self.trouble = self.trouble or f"{error.strerror or error}: {self.folder}"


def _finite(value: Any) -> Any:
    """JSON has no word for NaN and the infinities: they are written as the texts `nan`, `inf`, `-inf`."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 (NaN)
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
