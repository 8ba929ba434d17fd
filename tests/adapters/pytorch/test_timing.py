"""The sense of time: which phase waited, that waiting is not computing, and that nothing else changes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import watching
from torch.utils.data import DataLoader, Dataset

from truerun.adapters.pytorch.senses import timing
from truerun.monitoring.step_times import PHASES, StepTime, parse_step_time

STEPS, SLEEP = 12, 0.004


class Rows(Dataset[Any]):
    """Made-up rows; `before(index)` runs before each."""

    def __init__(self, before: Any = None) -> None:
        self.before = before

    def __len__(self) -> int:
        return STEPS * 4

    def __getitem__(self, index: int) -> Any:
        if self.before is not None:
            self.before(index)
        return torch.full((8,), float(index)), index % 3


def times(folder: Path) -> list[StepTime]:
    rows = [json.loads(line) for line in (folder / "steps-rank0.jsonl").read_text().splitlines()]
    return [parse_step_time(row["step"], row["time"]) for row in rows if "w" in row["time"]]


def run(folder: Path, where: str, act: Any) -> list[StepTime]:
    """Train one epoch; *act* runs once a step in the phase called *where*."""
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if where == "forward":
        model.register_forward_hook(lambda *_: act())
    if where == "backward":
        model.weight.register_hook(lambda _: act())
    if where == "optimizer":
        optimizer.register_step_post_hook(lambda *_: act())
    rows = Rows((lambda index: act() if index % 4 == 0 else None) if where == "data" else None)
    with watching(folder):
        for x, y in DataLoader(rows, batch_size=4):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            if where == "other":
                act()
            optimizer.step()
    return times(folder)


@pytest.mark.parametrize("phase", PHASES)
def test_the_phase_that_waits_is_named(tmp_path: Path, phase: str) -> None:
    """Somebody sleeps in one of the phases: that phase waited at least as long, and each step says so."""
    found = run(tmp_path, phase, lambda: time.sleep(SLEEP))
    place = PHASES.index(phase)
    assert len(found) == STEPS - 1
    # Not every step on a busy machine: what the probe itself waited is taken off, with its own time in the queue.
    assert sum(step.waited[place] >= SLEEP * 0.9 for step in found) >= STEPS // 2
    assert all(step.wall[place] >= step.waited[place] for step in found)


def test_waiting_shows_at_one_reading_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing waits the thread's clock is read once a step; a sleep then shows all the same, in the longest phase."""
    monkeypatch.setattr(timing, "CLOSE_STEPS", 0)
    found = run(tmp_path, "backward", lambda: time.sleep(SLEEP))
    assert sum(max(step.waited) >= SLEEP * 0.9 for step in found) >= STEPS // 2
    assert all(sum(waited > 0 for waited in step.waited) <= 1 for step in found)


def test_computing_is_not_waiting(tmp_path: Path) -> None:
    """The accept twin: the same time spent on a processor is no waiting, whatever else the machine does."""

    def compute() -> None:
        until = time.thread_time() + SLEEP
        while time.thread_time() < until:
            pass

    found = run(tmp_path, "forward", compute)
    if found[0].queued is None:
        pytest.skip("this kernel does not say how long a thread waits for a processor")
    assert sum(sum(step.waited) < SLEEP for step in found) >= STEPS // 2
    assert all(step.computed >= SLEEP * 0.9 for step in found)


def test_steps_of_two_threads_are_not_mixed(tmp_path: Path) -> None:
    """The accept twin: training that moves to another thread starts its clock anew and says which thread it is."""
    import threading

    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(3):
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()

    with watching(tmp_path):
        train()
        other = threading.Thread(target=train)
        other.start()
        other.join()
    rows = [json.loads(line)["time"] for line in (tmp_path / "steps-rank0.jsonl").read_text().splitlines()]
    assert [("tid" in row, "w" in row) for row in rows] == [(True, False), (False, True), (False, True)] * 2
    assert len({row["tid"] for row in rows if "tid" in row}) == 2


def test_worker_of_the_data_loader_killed(tmp_path: Path) -> None:
    """Somebody kills a worker: the loader's own error reaches the program as it is, and a finding names the signal."""
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def fail(index: int) -> None:
        if index == 20:
            # As torch words it, once its handler of SIGCHLD has run.
            told = RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. ")
            raise RuntimeError("DataLoader worker (pid(s) 4711) exited unexpectedly") from told

    def train() -> None:
        for x, _ in DataLoader(Rows(fail), batch_size=4):
            model(x).sum().backward()
            optimizer.step()

    with watching(tmp_path) as observer, pytest.raises(RuntimeError, match="4711"):
        train()
    (finding,) = [finding for finding in observer.findings if finding.rule == "process-killed"]
    assert (finding.evidence["workers"], finding.evidence["signal"], finding.location.step) == ("4711", "Killed", 5)
