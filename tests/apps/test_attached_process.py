"""`truerun.watch` inside a project: the run is locked, inspected and recorded as `truerun run` does, in observe mode."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from tests.apps.conftest import Small
from tests.monitoring.loop import model, train

import truerun
from truerun.adapters.pytorch import probe
from truerun.core.errors import UsageError
from truerun.core.run import Mode, Verdict


@pytest.fixture
def project(small: Small, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    """The small project, from whose folder the tests act as a notebook does: the command line of a console tells nothing."""
    small.lock()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.chdir(small.root)
    yield small
    probe.stop()


def trained() -> None:
    import torch

    network = model()
    train(network, torch.optim.AdamW(network.parameters(), lr=0.003), 12)


def test_run_of_a_notebook_is_in_the_ledger(project: Small) -> None:
    """Start, observations and end are entries; the declared learning rate is the one that was used; the folder has the records."""
    with truerun.watch(run_id="monday", key=project.key) as watch:
        trained()
        truerun.log(accuracy=0.9)
    assert (watch.run, watch.verdict) == ("monday", "pass")
    run = project.project.history().run("monday")
    assert (run.started.fact.mode, run.started.fact.lock) == (Mode.OBSERVE, project.project.head_lock().digest)
    assert [item.fact.last_step for item in run.observed] == [12]
    assert (run.finished.fact.verdict, run.finished.fact.steps, run.finished.fact.metrics) == (
        Verdict.PASS,
        12,
        {"accuracy": 0.9},
    )
    folder = project.root / ".truerun" / "runs" / "monday"
    assert len((folder / "steps-rank0.jsonl").read_text().splitlines()) == 12
    assert json.loads((folder / "result.json").read_text())["verdict"] == "pass"


def test_configuration_edited_under_a_running_notebook(project: Small) -> None:
    """The inputs change while the notebook runs: the twin above has no finding, this one has; so has what was not declared."""
    project.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    with truerun.watch(run_id="tuesday", key=project.key) as watch:
        trained()
        project.write("config.yaml", "optimizer:\n  lr: 0.3\nseed: 1\n")
    assert {"config-drift", "hyperparameter-drift", "inputs-changed"} <= {finding.rule for finding in watch.findings}
    assert watch.verdict == "fail"
    recorded = {finding.rule for finding in project.project.history().run("tuesday").findings}
    assert recorded == {finding.rule for finding in watch.findings}


def test_script_that_is_not_the_declared_command(project: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script says with its command line what it is; under another one than declared the run is not the declared one."""
    monkeypatch.delattr(sys, "ps1")
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "train.py", "--lr", "1"])
    with truerun.watch(key=project.key) as watch:
        trained()
    assert [finding.rule for finding in watch.findings] == ["command-drift"]


def test_taken_run_id_is_refused(project: Small) -> None:
    """A second run of the same name: refused before anything is watched; nothing is recorded twice."""
    with truerun.watch(run_id="monday", key=project.key):
        trained()
    with pytest.raises(UsageError, match="monday already"):
        truerun.watch(run_id="monday", key=project.key)
    assert probe.current() is None
    assert len(project.project.history().runs) == 1
