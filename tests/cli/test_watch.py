"""`truerun watch`: what is on the screen, while a run goes on, when it has ended, and when what it shows was made to deceive."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.conftest import ROOT

from truerun.apps.cli.live_view import sparkline
from truerun.apps.cli.watch import command
from truerun.apps.live_run import BINS, Curve, LiveRun
from truerun.apps.run_files import RunFiles
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.run import MetricPoint

DECLARATION = '[project]\nname = "digits"\ncommand = "python train.py"\n'
FINDING = Finding(
    rule="changed-between-steps",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    subject=Subject(kind="run", name="parameters", key="0.weight"),
    message="Between step 12 and step 13 something other than the optimizer changed parameters of 0.weight.",
    location=Location(step=13, rank=0),
    remedy="find the code that writes to parameters",
)
SCREEN = """\
run monday  running  for 1 min 02 s  digits  observe mode
  python train.py --config config.yaml

  step 120 · 2 steps/s · 2 ranks, the last at step 118 · 12 of 120 updates checked · watching costs 1.0%

  loss               1  █████▇▇▇▇▇▇▇▇▆▆▆▆▆▆▆▆▆▅▅▅▅▅▅▅▅▄▄▄▄▄▄▄▄▃▃▃▃▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁  1 to 1.992
  lr              0.01  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  constant
  accuracy         0.9  ▁▂▄▅▆█×█                                                      1 not finite

  1 error, 1 note
  error    changed-between-steps  step 13  rank 0
           Between step 12 and step 13 something other than the optimizer changed parameters of 0.weight.
           next: find the code that writes to parameters
  note     probe-silent
           The agent\\u001b[2J says: nothing to see here
"""


class Recorded:
    """A run's folder as the agent writes it, piece by piece."""

    def __init__(self, root: Path) -> None:
        (root / "truerun.toml").write_text(DECLARATION)
        self.folder = root / ".truerun" / "runs" / "monday"
        self.files = RunFiles(self.folder)

    def start(self, pid: int) -> None:
        start = {
            "schema": 1,
            "run": "monday",
            "project": "digits",
            "command": ["python", "train.py", "--config", "config.yaml"],
            "mode": "observe",
            "at": "2026-11-25T08:00:00Z",
            "agent": {"host": os.uname().nodename, "pid": pid},
            "findings": [],
        }
        (self.folder / "start.json").write_text(json.dumps(start))

    def steps(self, first: int, last: int, rank: int = 0) -> None:
        for step in range(first, last + 1):
            loss = 2 - step / 120
            record = {"step": step, "rank": rank, "optimizer": 0, "loss": loss, "lr": 0.01, "checked": step % 10 == 0}
            self.files.step(rank, record)

    def end(self, verdict: str) -> None:
        (self.folder / "result.json").write_text(json.dumps({"schema": 1, "verdict": verdict, "findings": []}))


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """A run that has just begun, in a project that is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    run = Recorded(tmp_path)
    run.start(os.getpid())
    yield run
    run.files.close()


def watch(*words: str) -> Result:
    return CliRunner().invoke(command, words, standalone_mode=False)


def shown(*words: str) -> str:
    result = watch(*words)
    assert result.exception is None, result.exception
    return "\n".join(line.rstrip() for line in result.output.splitlines()).rstrip() + "\n"


def fill(recorded: Recorded) -> None:
    recorded.steps(1, 120)
    recorded.steps(1, 118, rank=1)
    for at, value in enumerate([0.1, 0.2, 0.4, 0.5, 0.7, 0.9, float("nan"), 0.9]):
        recorded.files.metric(MetricPoint(name="accuracy", step=10 * at + 10, value=value), 0)
    recorded.files.finding(FINDING)
    note = "The agent\x1b[2J says:\nnothing to see here"
    recorded.files.finding(
        Finding(
            rule="probe-silent",
            severity=Severity.NOTE,
            confidence=Confidence.LOW,
            subject=Subject(kind="run", name="probe"),
            message=note,
        )
    )
    recorded.files.progress(42.0, {0: 80, 1: 79}, 0.42)
    recorded.files.progress(62.0, {0: 120, 1: 118}, 0.62)
    recorded.files.flush()


def test_whole_screen(recorded: Recorded) -> None:
    """Everything a person looks for, in one frame; text that would clear the terminal is shown instead of obeyed."""
    fill(recorded)
    assert shown("monday", "--once") == SCREEN
    assert shown("mon", "--once") == shown("--once")


def test_nothing_yet(recorded: Recorded) -> None:
    """The first second of a run: no curve, no speed, and no claim that all is well."""
    assert shown("--once").splitlines() == [
        "run monday  running  digits  observe mode",
        "  python train.py --config config.yaml",
        "",
        "  step 0",
        "",
        "  nothing found so far",
    ]


def test_agent_that_is_gone(recorded: Recorded) -> None:
    """Somebody killed the agent: the run does not look as if it went on."""
    recorded.start(2**22 + 1)
    assert "lost: its agent is gone and left no verdict" in shown("monday")


def test_line_half_written_waits(recorded: Recorded) -> None:
    """A look while the agent writes: the half line is taken with its other half, and nothing twice; rubbish is left out."""
    live = LiveRun(recorded.folder)
    line = json.dumps({"step": 1, "rank": 0, "optimizer": 0, "loss": 3.5, "lr": 0.1, "checked": True}) + "\n"
    path = recorded.folder / "steps-rank0.jsonl"
    path.write_text(line[:20])
    live.update()
    assert (live.step, live.curves) == (0, {})
    with path.open("a") as file:
        file.write(line[20:] + "rubbish\n[1]\n{}\n")
    live.update()
    live.update()
    assert (live.step, live.recorded, live.curves["loss"].last) == (1, 1, 3.5)


def test_view_ends_with_the_run(recorded: Recorded) -> None:
    """Without a terminal one frame comes, at the end, with the verdict."""
    recorded.steps(1, 10)
    recorded.files.flush()

    def go_on() -> None:
        time.sleep(0.2)
        recorded.steps(11, 30)
        recorded.files.progress(3.0, {0: 30}, 0.0)
        recorded.files.flush()
        recorded.end("pass")

    threading.Thread(target=go_on).start()
    text = shown()
    assert text.startswith("run monday  pass  after 3 s")
    assert "step 30 · 10 steps/s" in text
    assert text.count("run monday") == 1


def test_json_for_programs(recorded: Recorded) -> None:
    """The same state as a value; a number that JSON cannot hold is counted, not written."""
    fill(recorded)
    value: dict[str, Any] = json.loads(watch("monday", "--format", "json").output, parse_constant=pytest.fail)
    assert (value["schema"], value["state"], value["step"], value["steps_per_second"]) == (1, "running", 120, 2.0)
    assert value["ranks"] == {"0": 120, "1": 118}
    assert value["curves"]["accuracy"]["not_finite"] == 1
    assert len(value["curves"]["loss"]["points"]) == 120
    assert [finding["rule"] for finding in value["findings"]] == ["changed-between-steps", "probe-silent"]


@pytest.mark.parametrize(("name", "message"), [("friday", "no run friday"), ("mo", "2 runs begin with mo")])
def test_run_that_is_not_there(recorded: Recorded, name: str, message: str) -> None:
    """A misspelt id, or the beginning of two."""
    (recorded.folder.parent / "morning").mkdir()
    assert message in str(watch(name).exception)


def test_curve_of_a_million_steps_stays_small() -> None:
    """Neighbours are joined: bounded memory, and the mean of all values is kept."""
    curve = Curve()
    for step in range(1, 10_001):
        curve.add(step, float(step))
    points = curve.points()
    assert len(points) <= BINS
    assert sum(one[1] for one in curve.bins) == 10_000 * 10_001 / 2
    assert points == sorted(points)
    assert (curve.first, curve.last, curve.least, curve.most) == (1.0, 10_000.0, 1.0, 10_000.0)
    assert sparkline(curve, 8) == "▁▂▃▄▅▆▇█"


def test_every_name_of_a_run_file_is_documented() -> None:
    """What lies in a run's folder is said where people look it up."""
    text = (ROOT / "docs" / "reference" / "run.md").read_text()
    for name in ("steps-rank<N>.jsonl", "metrics.jsonl", "findings.jsonl", "progress.jsonl", "start.json", "result.json"):
        assert f"`{name}`" in text
