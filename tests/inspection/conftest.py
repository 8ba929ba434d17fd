"""A made-up reference, changes against it, and real data sets that grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from truerun.core.change import Action, Change, ChangeKind
from truerun.core.digest import digest_bytes
from truerun.core.lock import Lock, LockedEnvironment, LockedFile, LockedPackage
from truerun.inspection.data.growth import Growth
from truerun.inspection.reference import Reference


@pytest.fixture
def reference() -> Reference:
    lock = Lock(
        project="digits",
        command="python train.py --config config.yaml",
        critical=True,
        declaration=LockedFile(path="truerun.toml", digest=digest_bytes(b""), size=0),
        environment=LockedEnvironment(
            python="3.11.7", packages={"torch": LockedPackage(version="2.13.0")}, variables={"LD_PRELOAD": "libjemalloc.so"}
        ),
    )
    return Reference(lock=lock, at="2026-11-20T09:30:00Z", entry=412, approved=True)


@pytest.fixture
def change() -> Callable[..., Change]:
    def make(kind: ChangeKind, action: Action = Action.MODIFIED, name: str = "config.yaml", **rest: Any) -> Change:
        return Change(kind=kind, action=action, name=name, **rest)

    return make


class Growing:
    """A real data set of scikit-learn, shuffled by a seed: most rows approved, the rest new, everybody's name made up."""

    def __init__(self, reference: Reference, loader: Callable[[], Any], *, seed: int, new: int, people: int) -> None:
        self.reference = reference
        self.draw = np.random.default_rng(seed)
        data = loader()
        order = self.draw.permutation(len(data.target))
        columns = {f"f{i}": data.data[order, i] for i in range(data.data.shape[1])}
        who = [f"person{i}" for i in self.draw.integers(0, people, len(order))]
        frame = pl.DataFrame(columns | {"label": data.target[order].astype(int), "by": who})
        self.approved = frame[: frame.height - new]
        self.now = frame
        self.added = {
            name: np.array([i for i in range(self.approved.height, frame.height) if who[i] == name], np.int64)
            for name in sorted(set(who[self.approved.height :]))
        }
        self.removed = np.array([], np.int64)

    @property
    def someone(self) -> str:
        """Whoever added most of the new rows."""
        return max(self.added, key=lambda name: len(self.added[name]))

    def rows(self, share: float = 1.0) -> np.ndarray:
        """Some of someone's new rows."""
        rows = self.added[self.someone]
        return np.sort(self.draw.choice(rows, max(1, round(len(rows) * share)), replace=False))

    def set(self, column: str, rows: np.ndarray, value: Callable[[Any], Any]) -> None:
        values = self.now[column].to_list()
        for row in rows:
            values[row] = value(values[row])
        self.now = self.now.with_columns(pl.Series(column, values, dtype=self.now[column].dtype, strict=False))

    def edit_in_place(self, column: str, rows: np.ndarray, value: Callable[[Any], Any], who: str = "person0") -> None:
        """Nothing is added; somebody changes approved rows."""
        self.now = self.approved
        self.set(column, rows, value)
        self.added, self.removed = {who: np.sort(rows)}, np.sort(rows)

    def append(self, rows: pl.DataFrame) -> np.ndarray:
        """Add rows in someone's name; their row numbers."""
        name, start = self.someone, self.now.height
        self.now = pl.concat([self.now, rows.with_columns(pl.lit(name).alias("by")).select(self.now.columns)])
        numbers = np.arange(start, self.now.height)
        self.added = {**self.added, name: np.concatenate([self.added[name], numbers])}
        return numbers

    def growth(self, **rest: Any) -> Growth:
        return Growth(
            name="train",
            path="data/train.parquet",
            now=self.now,
            approved=self.approved,
            added=self.added,
            removed=self.removed,
            reference=self.reference,
            **{"label": "label", "contributor": "by", **rest},
        )


@pytest.fixture
def growing(reference: Reference) -> Callable[..., Growing]:
    def make(name: str = "digits", *, seed: int = 0, new: int = 300, people: int = 4) -> Growing:
        from sklearn import datasets

        return Growing(reference, getattr(datasets, f"load_{name}"), seed=seed, new=new, people=people)

    return make
