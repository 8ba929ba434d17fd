"""Hugging Face's Trainer, Lightning and Accelerate: watched unchanged and through their callbacks, bit for bit what they are without."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.monitoring.loop import Loop, model, train

from truerun.adapters import joining, lightning_entry
from truerun.adapters.pytorch import probe
from truerun.adapters.pytorch.settings import SOCKET
from truerun.apps.agent import WatchOutcome, WatchRequest, watch
from truerun.core.declaration import MonitoringSection

PROGRAMS = Path(__file__).parents[1] / "programs"
# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without a project; whatever a test forgets to close is closed."""
    monkeypatch.chdir(tmp_path)
    yield
    probe.stop()


@pytest.mark.parametrize(("name", "steps", "metric"), [("hf_trainer", 30, "eval_loss"), ("lightning_fit", 24, "val_accuracy")])
def test_callback_starts_the_watch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, steps: int, metric: str
) -> None:
    """One line in the script: every step is checked, metrics arrive, nothing is found, losses and weights are the same bits."""
    shown = {}
    for words in ((), ("--callback",)):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(PROGRAMS / f"{name}.py"))
        shown[words] = capfd.readouterr()
    assert shown["--callback",].out == shown[()].out
    assert len(shown[()].out.splitlines()) > 10
    assert f"pass · {steps} steps · nothing found" in shown["--callback",].err
    assert metric in shown["--callback",].err
    assert probe.current() is None


def run(folder: Path, name: str, *words: str) -> tuple[WatchOutcome, str]:
    """The program under the agent, every step checked; its output comes back as text."""
    request = WatchRequest(
        command=(sys.executable, str(PROGRAMS / f"{name}.py"), *words),
        cwd=folder,
        folder=folder / f"run-{time.monotonic_ns()}",
        output=folder / "output.txt",
        monitoring=MonitoringSection(every=1),
    )
    outcome = watch(request)
    return outcome, (folder / "output.txt").read_text()


def results(text: str) -> list[str]:
    """The program's own lines, without what frameworks say on standard error."""
    return [line for line in text.splitlines() if line.startswith(("0x", "-0x", "weights")) or " 0x" in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf_trainer", ()),
        ("hf_trainer", ("--resume",)),
        ("hf_trainer", ("--best",)),
        ("lightning_fit", ()),
        ("lightning_fit", ("--callback",)),
    ],
)
def test_under_truerun_run_without_a_change(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    """Zero code: the framework's own loop, accumulation, clipping, schedule, evaluation, resume and best checkpoint are legal."""
    command = [sys.executable, str(PROGRAMS / f"{name}.py"), *words]
    alone = subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, text=True, env={**os.environ, "TRUERUN_WATCH": "0"}
    )
    outcome, text = run(tmp_path, name, *words)
    assert results(text) == results(alone.stdout)
    assert len(results(text)) > 10
    assert [finding for finding in outcome.findings if finding.severity.rank >= 1] == []
    assert (outcome.exit_code, outcome.sampling["samples"]) == (0, outcome.steps)
    if name == "lightning_fit":
        assert outcome.metrics["val_accuracy"] > 0.5  # the entry point brought the callback, once
        assert len([point for point in outcome.points if point.name == "val_accuracy"]) == 3


def test_accelerate_tracker(capfd: pytest.CaptureFixture[str]) -> None:
    """Accelerate's own logging call reports, and end_training ends the watch."""
    from accelerate import Accelerator

    from truerun.adapters.accelerate import TruerunTracker

    network = model()
    accelerator = Accelerator(cpu=True, log_with=TruerunTracker(network))
    accelerator.init_trackers("digits", config={"lr": 1e-3})
    watched = accelerator.get_tracker("truerun", unwrap=True)
    made, optimizer = accelerator.prepare(network, torch.optim.AdamW(network.parameters(), lr=1e-3))
    train(made, optimizer, 12, lambda step: accelerator.log({"quality": step / 12}, step=step))
    accelerator.end_training()
    assert (watched.verdict, watched.findings) == ("pass", ())
    assert "pass · 12 steps · nothing found · quality 1" in capfd.readouterr().err


def test_callback_within_a_watch_only_gives_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `truerun run`, or inside `with truerun.watch():`, a callback starts nothing and ends nothing."""
    watched = probe.Probe(probe.Settings(), Loop(None))  # type: ignore[arg-type]
    monkeypatch.setattr(probe, "_probe", watched)
    joined = joining.Joined()
    joined.begin(model())
    joined.end()
    assert (joined.watch, probe.current()) == (None, watched)
    monkeypatch.setattr(probe, "_probe", None)


def test_watch_that_is_refused_does_not_end_the_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A broken truerun.toml above the script: said once; the training goes on."""
    (tmp_path / "truerun.toml").write_text("[project\n")
    joined = joining.Joined()
    joined.begin(model())
    joined.report({"loss": 1.0})
    joined.end()
    assert "goes on unwatched" in capfd.readouterr().err


def test_of_several_ranks_the_first_is_watched(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Two ranks with a callback and without `truerun run`: one run, not two that know nothing of each other, and it is said."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    joined = joining.Joined()
    for rank, watched in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        joined.begin(model())
        assert (joined.watch is not None) is watched
    joined.end()
    assert capfd.readouterr().err.count("only rank 0 is watched") == 1


def test_entry_point_is_silent_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truerun is installed and nobody asked: Lightning gets no callback, and nothing is imported for it."""
    from importlib.metadata import entry_points

    (found,) = [one for one in entry_points(group="lightning.pytorch.callbacks_factory") if one.name == "truerun"]
    assert found.load() is lightning_entry.callbacks
    monkeypatch.setitem(sys.modules, "truerun.adapters.lightning", None)
    assert lightning_entry.callbacks() == []
    made: Any = SimpleNamespace(TruerunCallback=lambda: "callback")
    monkeypatch.setitem(sys.modules, "truerun.adapters.lightning", made)
    for name, value in ((SOCKET, "/tmp/socket"), ("TRUERUN_WATCH", "1")):
        monkeypatch.setenv(name, value)
        assert lightning_entry.callbacks() == ["callback"]
        monkeypatch.delenv(name)
