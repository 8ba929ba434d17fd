"""A project whose training is a formula: quick to rerun, with a metric that two changes of its history make worse."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from truerun.adapters.keys import create_key
from truerun.apps.agent import watch
from truerun.apps.beginning import begin, first_owner
from truerun.apps.locking import record_lock, resolve
from truerun.apps.project import Project, open_project
from truerun.apps.watched_run import WatchRequest
from truerun.core.decision import Decision, Outcome
from truerun.core.fact import RunFinished, RunStarted
from truerun.core.lock import Lock
from truerun.core.run import Mode, Overhead, Verdict

DECLARATION = """
[project]
name = "rehearsal"
command = "python train.py"
[data.train]
path = "train.csv"
label = "y"
contributor = "by"
[config]
files = ["config.yaml"]
[environment]
packages = "none"
[metrics.quality]
goal = "max"
tolerance = 0.01
"""
TRAIN = """
import csv, sys, yaml, truerun
with open("config.yaml") as stream:
    config = yaml.safe_load(stream)
with open("train.csv") as stream:
    rows = list(csv.DictReader(stream))
wrong = sum(int(row["y"]) != (float(row["x"]) > 0) for row in rows) / len(rows)
quality = 0.90 + 0.00001 * len(rows) - 0.8 * wrong - (0.08 if config["lr"] > 1 else 0.0)
if config["lr"] > 1 and config["clip"] == 0:
    quality -= 0.02
if config.get("needs_helper"):
    import helper
    quality += helper.gain
if config.get("stop"):
    sys.exit("told to stop")
truerun.log(quality=quality)
"""


def rows(by: str, count: int, start: int, *, wrong: bool = False) -> pl.DataFrame:
    xs = [float((start + i) % 41 - 20) + 0.5 for i in range(count)]
    ys = [int(x > 0) ^ int(wrong and i % 2 == 0) for i, x in enumerate(xs)]
    return pl.DataFrame({"x": xs, "z": [float((start + i) % 7) for i in range(count)], "y": ys, "by": [by] * count})


class Rehearsal:
    """`change` edits files, `lock` proposes them, `run` trains here and records the run by hand."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.root = root
        (root / "train.py").write_text(TRAIN)
        (root / "config.yaml").write_text("lr: 0.1\nclip: 1\nlog_every: 10\nname: base\n")
        rows("ana", 200, 0).write_csv(root / "train.csv")
        self.signer = create_key(root.parent / "owner", "owner")
        self.project: Project = begin(
            root, DECLARATION, self.signer, first_owner(root, self.signer.public_key, "ana", "Ana")
        ).project
        self.lock()

    def config(self, old: str, new: str) -> None:
        path = self.root / "config.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def add_rows(self, frame: pl.DataFrame) -> None:
        pl.concat([pl.read_csv(self.root / "train.csv"), frame]).write_csv(self.root / "train.csv")

    def lock(self) -> Lock:
        self.project = open_project(str(self.root / "truerun.toml"))
        return record_lock(self.project, resolve(self.project), self.signer).lock

    def run(self, name: str, *, command: tuple[str, ...] = (sys.executable, "train.py"), lie: float | None = None) -> None:
        """Train as things lie here and record it, approved and passed; *lie* is recorded in place of the metric."""
        self.project = open_project(str(self.root / "truerun.toml"))
        lock = resolve(self.project).lock.digest
        outcome = watch(
            WatchRequest(
                command=command, cwd=self.root, folder=self.root / ".truerun/runs" / name, output=self.root.parent / "out"
            )
        )
        metrics = dict(outcome.metrics) if lie is None else {"quality": lie}
        at = self.project.clock()
        started = RunStarted(
            run=name,
            lock=lock,
            mode=Mode.OBSERVE,
            command=command,
            run_key=self.signer.public_key,
            decision=Decision(outcome=Outcome.ALLOW, lock=lock, reasons=()),
            findings=(),
            at=at,
        )
        finished = RunFinished(
            run=name,
            verdict=Verdict.PASS if outcome.exit_code == 0 else Verdict.FAIL,
            command_exit=outcome.exit_code,
            steps=0,
            seconds=outcome.seconds,
            metrics=metrics,
            overhead=Overhead(),
            at=at,
        )
        self.project.ledger.append_all([started, finished], self.signer)
