"""Time in real processes: sleeps with their lines, stops, workers and exits; honest twins beside them. One core each, by count."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from truerun.adapters.stacks import sampler
from truerun.apps.agent import WatchOutcome, WatchRequest, watch
from truerun.core.finding import Finding, Severity

TRAIN = """
import os, sys, threading, time, random, torch
from time import sleep as rest
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
rows = torch.utils.data.TensorDataset(torch.randn(512, 64), torch.randint(0, 3, (512,)))
step, begun = 0, time.monotonic()
while step < STEPS:
    for x, y in torch.utils.data.DataLoader(rows, batch_size=16):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        step += 1
        ACT
"""


def run(folder: Path, act: str, steps: int = 200, before: str = "", **request: Any) -> WatchOutcome:
    """Train *steps* steps and *act* after each."""
    script = folder / "train.py"
    script.write_text(TRAIN.replace("STEPS", str(steps)).replace("ACT", act).replace("step, begun", before + "\nstep, begun", 1))
    return watch(
        WatchRequest(command=(sys.executable, "train.py"), cwd=folder, folder=folder / "run", output=folder / "out", **request)
    )


def of(outcome: WatchOutcome, rule: str) -> list[Finding]:
    return [finding for finding in outcome.findings if finding.rule == rule]


needs_sampler = pytest.mark.skipif(sampler() is None, reason="py-spy is not installed")


@needs_sampler
@pytest.mark.slow
@pytest.mark.parametrize("act", ["if random.random() < 0.2: time.sleep(0.15)", "rest(0.02)", "if step > 60: time.sleep(0.05)"])
def test_sleeps_are_found_with_their_line(tmp_path: Path, act: str) -> None:
    """At random; in every step from the first on, under another name; from step 60 on. The line of the script is named."""
    found = of(run(tmp_path, act), "slow-step")
    assert [(finding.severity, Path(finding.location.path or "").name, finding.location.line) for finding in found] == [
        (Severity.WARNING, "train.py", 16)
    ]


@needs_sampler
def test_sleep_inside_step(tmp_path: Path) -> None:
    """Somebody sleeps inside step(), at random, where no program does by design: an error that names the line and the phase."""
    hooked = "optimizer.register_step_pre_hook(lambda *_: time.sleep(0.2) if random.random() < 0.3 else None)"
    (finding,) = of(run(tmp_path, "pass", steps=100, before=hooked), "slow-step")
    assert (finding.evidence["phase"], finding.severity) == ("optimizer", Severity.ERROR)
    assert "train.py:9" in finding.message


@pytest.mark.slow
@pytest.mark.parametrize(
    "act",
    [
        "pass",
        "if step % 20 == 0: [model(torch.randn(256, 64)) for _ in range(200)]",
        "if step % 20 == 0: torch.save(model.state_dict(), 'model.pt'); os.sync()",
        "if step % 50 == 0: import gc; gc.collect()",
    ],
)
def test_honest_programs_are_silent(tmp_path: Path, act: str) -> None:
    """The accept twins: nothing; an evaluation and a checkpoint every 20 steps; a garbage collection."""
    assert run(tmp_path, act, steps=300).findings == ()


def test_stopped_by_somebody(tmp_path: Path) -> None:
    """SIGSTOP from outside, SIGCONT a second later: said when it happens and when it is over."""
    act = "if step == 40: open('pid', 'w').write(str(os.getpid())); time.sleep(0.3)"

    def stop() -> None:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)

    other = threading.Thread(target=stop)
    other.start()
    outcome = run(tmp_path, act, steps=250)
    other.join()
    found = of(outcome, "process-stopped")
    assert [finding.evidence["term"] for finding in found] == ["stopped", "resumed"]
    assert found[1].evidence["seconds"] >= 1.2
    assert outcome.exit_code == 0


@pytest.mark.slow
def test_data_loader_worker_killed(tmp_path: Path) -> None:
    """A worker process is killed from outside: the program's own error, and a finding that tells which worker and which signal."""
    act = "pass"
    before = (
        "class Rows(torch.utils.data.Dataset):\n    def __len__(self): return 512\n"
        "    def __getitem__(self, i):\n        if i == 200: os.kill(os.getpid(), 9)\n        return torch.randn(64), 1\n"
        "rows = Rows()\nmake = torch.utils.data.DataLoader\n"
        "torch.utils.data.DataLoader = lambda rows, batch_size: make(rows, batch_size=batch_size, num_workers=1)\n"
    )
    outcome = run(tmp_path, act, before=before)
    assert outcome.exit_code == 1
    (finding,) = [finding for finding in of(outcome, "process-killed") if finding.subject.name == "data loader worker"]
    assert finding.evidence["signal"] in ("Killed", None)  # torch may notice the loss before it is told the signal


def test_out_of_memory_of_its_own(tmp_path: Path) -> None:
    """A limit on memory makes the program raise: told apart from a kill, a note, and the exit code is its own."""
    outcome = run(tmp_path, "if step == 20: raise MemoryError('no room for the batch')")
    (finding,) = of(outcome, "process-killed")
    assert (finding.severity, outcome.exit_code) == (Severity.NOTE, 1)
    assert "no room for the batch" in finding.message


RANKS = """
import os, time, torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(120):
    loss = model(torch.randn(16, 64)).pow(2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    ACT
dist.destroy_process_group()
"""


@needs_sampler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "world", "slow"),
    [
        ("if world > 1: time.sleep(0.04)", 2, {0, 1}),
        ("if world > 1: time.sleep(0.04)", 1, set()),
        ("if rank == 1: time.sleep(0.04)", 2, {1}),
        ("pass", 2, set()),
    ],
)
def test_sleeps_of_ranks(tmp_path: Path, act: str, world: int, slow: set[int]) -> None:
    """Only above a world size, on all ranks alike; on one rank, for which the other waits; the accept twins beside them."""
    (tmp_path / "train.py").write_text(RANKS.replace("ACT", act))
    command = ("-m", "torch.distributed.run", f"--nproc-per-node={world}", "--standalone", "train.py")
    outcome = watch(
        WatchRequest(
            command=(sys.executable, *command),
            cwd=tmp_path,
            folder=tmp_path / "run",
            output=tmp_path / "out",
            env={"OMP_NUM_THREADS": "1"},
        )
    )
    assert outcome.exit_code == 0, (tmp_path / "out").read_text()[-2000:]
    assert {finding.location.rank for finding in of(outcome, "slow-step")} == slow
    assert {finding.location.line for finding in of(outcome, "slow-step")} <= {12}
