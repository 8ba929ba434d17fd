"""A small project with a history of locks, each made by changing files: material for tests of rebuilding and tracing."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from truerun.adapters.keys import create_key
from truerun.apps.beginning import begin, first_owner
from truerun.apps.locking import record_lock, resolve
from truerun.apps.project import Project, open_project
from truerun.attribution.candidates import Candidate, Link, candidates_of
from truerun.core.digest import Digest
from truerun.core.lock import Lock

DECLARATION = """
[project]
name = "small"
command = "python3 train.py"
[data.train]
path = "data/train.{suffix}"
label = "y"
contributor = "by"
[config]
files = ["config.yaml", "more.toml", "extra.json"]
[code]
files = ["*.py"]
[environment]
packages = "none"
[checkpoints]
input = ["init.bin"]
[metrics.quality]
goal = "max"
tolerance = 0.01
"""
CODE = "".join(f"line_{number} = {number}\n" for number in range(30))


def rows(by: str, start: int, count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"x": [float(start + i) / 4 for i in range(count)], "y": [(start + i) % 3 for i in range(count)], "by": [by] * count}
    )


class Team:
    """A project in *root*; `lock()` proposes what lies there."""

    def __init__(self, root: Path, suffix: str = "csv") -> None:
        self.root, self.suffix = root, suffix
        self.data = root / f"data/train.{suffix}"
        (root / "data").mkdir(parents=True)
        (root / "config.yaml").write_text("# comment\noptimizer:\n  lr: 0.1\n  name: sgd\nlayers: [4, 8]\nname: first\n")
        (root / "more.toml").write_text('title = "t"\n[run]\nseed = 1\nwhen = 2026-11-20\n')
        (root / "extra.json").write_text('{"a": {"b": 1}, "c.d": 2}')
        (root / "train.py").write_text(CODE)
        (root / "init.bin").write_bytes(b"weights")
        (root / "run.sh").write_text("#!/bin/sh\n")
        self.write_rows(rows("ana", 0, 20))
        self.signer = create_key(root.parent / "owner", "owner")
        owner = first_owner(root, self.signer.public_key, "ana", "Ana")
        self.project: Project = begin(root, DECLARATION.format(suffix=suffix), self.signer, owner).project
        self.locks: list[Lock] = []
        self.lock()

    def write_rows(self, frame: pl.DataFrame) -> None:
        match self.suffix:
            case "csv":
                frame.write_csv(self.data)
            case "jsonl":
                frame.write_ndjson(self.data)
            case _:
                frame.write_parquet(self.data)

    def read_rows(self, folder: Path | None = None) -> pl.DataFrame:
        path = (folder or self.root) / f"data/train.{self.suffix}"
        return {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[self.suffix](path)

    def add_rows(self, frame: pl.DataFrame) -> None:
        self.write_rows(pl.concat([self.read_rows(), frame]))

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))

    def lock(self, note: str = "") -> Lock:
        self.project = open_project(str(self.root / "truerun.toml"))
        lock = record_lock(self.project, resolve(self.project), self.signer, note).lock
        self.locks.append(lock)
        return lock

    def known_locks(self) -> dict[Digest, Lock]:
        return {lock.digest: lock for lock in self.locks}

    def candidates(self) -> tuple[Candidate, ...]:
        chain = self.project.history().chain(self.locks[0].digest, self.locks[-1].digest)
        assert chain is not None
        links = [
            Link(entry=record.index, before=record.fact.parent, after=record.fact.lock, changes=record.fact.changes)
            for record in chain
        ]
        return candidates_of(links, self.known_locks())


def read_json(path: Path) -> object:
    return json.loads(path.read_text())
