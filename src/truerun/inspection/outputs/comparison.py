"""Two sets of outputs side by side: the same examples where they can be matched, and the change of every slice.

Examples are matched by id, or by place where the labels agree row by row. Otherwise the two are taken as samples of
different examples, which needs more of them to tell the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from truerun.inspection.outputs.counts import Dimension, OutputCounts
from truerun.inspection.outputs.intervals import Shares

# Below this share of common examples, matching them would judge a remainder that may be chosen.
MIN_COMMON = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Examples with one value of one class or group column; `column` None is all of them. `measure` is what is compared."""

    measure: str
    column: str | None = None
    value: str | None = None

    @property
    def words(self) -> str:
        """As people say it: `recall of label 3`, `accuracy of sex f`, `accuracy overall`."""
        return f"{self.measure} overall" if self.column is None else f"{self.measure} of {self.column} {self.value}"

    @property
    def key(self) -> str:
        """As a finding names it: `label=3`."""
        return "overall" if self.column is None else f"{self.column}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The change of one slice, that of all other examples of the same column, and rows that were right before and are wrong now."""

    slice: Slice
    change: Shares
    rest: Shares | None
    flipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Places of matched examples in both tables; None where they are not matched."""

    before: NDArray[np.int64] | None
    now: NDArray[np.int64] | None


def is_paired(current: OutputCounts, reference: OutputCounts) -> bool:
    """Whether the two are about the same examples."""
    return _pair(current, reference).now is not None


def compare(current: OutputCounts, reference: OutputCounts) -> tuple[Shift, ...]:
    """Every slice that has examples on both sides: all, each class, each value of each group column."""
    pair = _pair(current, reference)
    right = _Measured(current.right, reference.right, pair)
    shifts = []
    everything = right.change(np.ones(current.examples, dtype=np.bool_), np.ones(reference.examples, dtype=np.bool_))
    if everything is not None:
        shifts.append(
            Shift(slice=Slice(measure="accuracy"), change=everything, rest=None, flipped=right.flipped(None, current.rows))
        )
    shifts += _slices("recall", right, current.labels, reference.labels, current.rows)
    before_groups = {group.name: group for group in reference.groups}
    for group in current.groups:
        if group.name in before_groups:
            shifts += _slices("accuracy", right, group, before_groups[group.name], current.rows)
    return tuple(shifts)


def compare_decisions(current: OutputCounts, reference: OutputCounts) -> tuple[Shift, ...]:
    """The share of yes in the declared decision, by each value of each group column."""
    if current.decided is None or reference.decided is None:
        return ()
    decided = _Measured(current.decided, reference.decided, _pair(current, reference))
    before_groups = {group.name: group for group in reference.groups}
    return tuple(
        shift
        for group in current.groups
        if group.name in before_groups
        for shift in _slices("share of yes", decided, group, before_groups[group.name], current.rows)
    )


class _Measured:
    """A yes or no about every example of both tables."""

    def __init__(self, now: NDArray[np.bool_], before: NDArray[np.bool_], pair: _Pair) -> None:
        self._now, self._before, self._pair = now, before, pair

    def change(self, now: NDArray[np.bool_], before: NDArray[np.bool_]) -> Shares | None:
        """The change among the examples that the masks choose; a matched example is in the slice that it is in now."""
        if self._pair.now is not None and self._pair.before is not None:
            inside = now[self._pair.now]
            was, has = self._before[self._pair.before][inside], self._now[self._pair.now][inside]
            count, both = len(has), int((was & has).sum())
            return _change(int(was.sum()), count, int(has.sum()), count, both)
        was, has = self._before[before], self._now[now]
        return _change(int(was.sum()), len(was), int(has.sum()), len(has), None)

    def flipped(self, inside: NDArray[np.bool_] | None, rows: NDArray[np.int64]) -> tuple[int, ...]:
        """Rows of matched examples that had it and have it no more."""
        if self._pair.now is None or self._pair.before is None:
            return ()
        lost = self._before[self._pair.before] & ~self._now[self._pair.now]
        if inside is not None:
            lost &= inside[self._pair.now]
        return tuple(int(row) for row in np.sort(rows[self._pair.now[lost]]))


def _slices(measure: str, measured: _Measured, now: Dimension, before: Dimension, rows: NDArray[np.int64]) -> list[Shift]:
    shifts = []
    places = {value: place for place, value in enumerate(before.values)}
    for place, value in enumerate(now.values):
        if value not in places:
            continue
        inside, inside_before = now.codes == place, before.codes == places[value]
        change = measured.change(inside, inside_before)
        rest = measured.change(~inside & (now.codes >= 0), ~inside_before & (before.codes >= 0))
        if change is not None:
            what = Slice(measure=measure, column=now.name, value=value)
            shifts.append(Shift(slice=what, change=change, rest=rest, flipped=measured.flipped(inside, rows)))
    return shifts


def _change(before: int, total_before: int, now: int, total_now: int, both: int | None) -> Shares | None:
    if not total_before or not total_now:
        return None
    return Shares(before=before, total_before=total_before, now=now, total_now=total_now, both=both)


def _pair(current: OutputCounts, reference: OutputCounts) -> _Pair:
    smaller = min(current.examples, reference.examples)
    if smaller and current.ids is not None and reference.ids is not None:
        places = {example: place for place, example in enumerate(reference.ids)}
        found = [(places[example], place) for place, example in enumerate(current.ids) if example in places]
        same = [(b, n) for b, n in found if _label(reference, b) == _label(current, n)]
        if len(same) >= MIN_COMMON * smaller:
            both = np.array(same, dtype=np.int64)
            return _Pair(before=both[:, 0], now=both[:, 1])
    alike = current.labels.values == reference.labels.values and np.array_equal(current.labels.codes, reference.labels.codes)
    if smaller and alike and current.ids is None and reference.ids is None and np.array_equal(current.rows, reference.rows):
        places_alike = np.arange(current.examples)
        return _Pair(before=places_alike, now=places_alike)
    return _Pair(before=None, now=None)


def _label(outputs: OutputCounts, place: int) -> str | None:
    code = int(outputs.labels.codes[place])
    return outputs.labels.values[code] if code >= 0 else None
