"""What each loader shows of itself, learned for later runs and compared with the approved one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from truerun.apps.judging.judge import Findings
from truerun.apps.watched_run import WatchRequest
from truerun.monitoring.batch_coverage import Coverage
from truerun.monitoring.loader_drift import WORDS, Habits, check_habits, parse_habits

MIN_ORDERED = 16
MAX_LEARNED = 32


class LoaderHabits:
    """
    The loaders of one process in the order in which they turned out to train, and not to.

    `loaded` says that a state was loaded before the first step: a checkpoint, or weights to begin with.
    """

    def __init__(self, request: WatchRequest) -> None:
        self.reference = request.reference
        self.rows = {data.name: data.rows for data in request.data}
        learned = self.reference.learned.get("batches", {})
        self._before = {role: _parse(learned.get(role)) for role in ("training", "evaluation")}
        self._growth = _growth(learned.get("rows"), self.rows)
        self._loaded_before = learned.get("loaded") is True
        self.loaded = False
        self._places: dict[tuple[int, str], int] = {}
        self._now: dict[str, list[Habits]] = {"training": [], "evaluation": []}

    def look(self, coverage: Coverage, step: int, *, training: bool, end: str | None) -> Findings:
        """A pass as far as it has come; it is judged once it is known to train, and once it has ended."""
        role = "training" if training else "evaluation"
        seen = coverage.seen.loader
        if not training and end != "complete":
            return ()
        place = self._places.get((seen.number, role))
        if place is None:
            place = self._places[seen.number, role] = len(self._now[role])
            self._now[role].append(Habits())
        known = self._now[role][place]
        now = _habits(coverage, whole=end == "complete")
        # What an earlier pass has shown stands: a loader is compared once, not in each pass.
        fresh = {name: value for name in WORDS if getattr(known, name) is None and (value := getattr(now, name)) is not None}
        known = self._now[role][place] = replace(known, **fresh)
        if not fresh or place >= len(self._before[role]):
            return ()
        before, growth = self._before[role][place], self._growth
        resumed = self.loaded and not self._loaded_before
        return check_habits(
            known, before, fresh, loader=seen, reference=self.reference, growth=growth, step=step, resumed=resumed
        )

    def learned(self) -> Mapping[str, Any]:
        """For the record of the run."""
        shown = {role: [_shown(habits) for habits in known[:MAX_LEARNED]] for role, known in self._now.items() if known}
        return {**shown, "rows": self.rows, "loaded": self.loaded} if shown else {}


def _habits(coverage: Coverage, *, whole: bool) -> Habits:
    seen = coverage.seen
    return Habits(
        dataset=seen.loader.dataset,
        items=seen.items,
        sampler=seen.sampler,
        batch_sampler=seen.loader.batch_sampler,
        batch_size=seen.batch_size,
        drop_last=seen.drop_last,
        ordered=coverage.ascending if coverage.given >= MIN_ORDERED or (whole and coverage.given > 1) else None,
        covered=coverage.covered if whole else None,
        given=coverage.given if whole else None,
    )


def _shown(habits: Habits) -> dict[str, Any]:
    return {name: value for name in Habits.__slots__ if (value := getattr(habits, name)) is not None}


def _parse(found: Any) -> list[Habits]:
    return [parse_habits(one) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _growth(before: Any, now: Mapping[str, int]) -> float:
    """By how much the declared rows have grown, 1.0 where that is not known."""
    if not isinstance(before, Mapping) or not now:
        return 1.0
    was = sum(rows for name, rows in before.items() if name in now and type(rows) is int)
    return sum(now[name] for name in before if name in now) / was if was else 1.0
