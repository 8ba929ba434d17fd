"""The agent end to end: real commands with the probe inside, unchanged in output, losses and exit code; attacks beside twins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from truerun.adapters import process
from truerun.apps.agent import Batch, WatchOutcome, WatchRequest, watch
from truerun.core.declaration import MonitoringSection
from truerun.core.errors import CommandNotFoundError
from truerun.core.finding import Finding
from truerun.monitoring.reference import Reference

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = sys.executable
TRAIN = """
import os, sys, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=float(os.environ.get("LR", "0.01")))
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5)
for step in range(1, 31):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
    optimizer.zero_grad(); loss.backward(); optimizer.step(); schedule.step()
    if len(sys.argv) > 1: exec(sys.argv[1])
print(loss.item().hex(), torch.rand(1).item())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path


def run(script: Path, *command: str, **request: Any) -> tuple[WatchOutcome, str]:
    """Watch *command* in the script's folder; its output comes back as text."""
    output = script.parent / "output.txt"
    outcome = watch(
        WatchRequest(
            command=command or (PYTHON, script.name),
            cwd=script.parent,
            folder=script.parent / "run",
            output=output,
            **{"monitoring": MonitoringSection(every=1), **request},
        )
    )
    return outcome, output.read_text()


def rules(outcome: WatchOutcome) -> list[tuple[str, int | None]]:
    return [(finding.rule, finding.location.step) for finding in outcome.findings]


def test_command_that_does_not_exist(script: Path) -> None:
    """A misspelt command is refused before anything starts, and leaves no folder."""
    with pytest.raises(CommandNotFoundError, match="pyhton"):
        run(script, "pyhton", "train.py")
    assert not (script.parent / "run").exists()


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143), ("1 / 0", 1)]
)
def test_exit_codes_are_the_commands_own(script: Path, code: str, expected: int) -> None:
    """An exit code, a signal as a shell reports it, an exception."""
    assert run(script, PYTHON, "-c", code)[0].exit_code == expected


def test_plain_commands_pass_through(script: Path) -> None:
    """Output byte for byte, arguments and environment; torch is not needed."""
    outcome, text = run(script, "sh", "-c", 'printf "%s|%s" "$0" "$GREETING"', "a b", env={"GREETING": "hi\n", "HOME": None})
    assert (outcome.exit_code, text) == (0, "a b|hi\n")
    assert outcome.findings == ()


@pytest.mark.parametrize(
    "words", [("bare_loop.py",), ("class_trainer.py",), ("argparse_yaml.py", "--config", "settings.yaml")], ids=lambda w: w[0]
)
def test_examples_run_bit_for_bit_as_without(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Three scripts not written for Truerun: losses, final weights and random numbers are identical with and without."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    folder = tmp_path / "examples"
    subprocess.run([PYTHON, "prepare.py", "data"], cwd=folder, check=True)
    alone = subprocess.run([PYTHON, *words], cwd=folder, check=True, capture_output=True, text=True)
    outcome, text = run(folder / words[0], PYTHON, *words)
    assert text == alone.stdout
    assert (outcome.exit_code, outcome.findings) == (0, ())
    assert outcome.sampling["samples"] == outcome.steps > 20


def test_clean_run_is_recorded_and_replays(script: Path) -> None:
    """Every step has a record; a second run with the same replay key gives the same fingerprints, and stops where asked."""
    batches: list[Batch] = []
    outcome, _ = run(script, replay_key="00" * 16, keep_records=True, on_batch=batches.append)
    assert (outcome.exit_code, outcome.steps, outcome.findings, outcome.ranks) == (0, 30, (), 1)
    assert [record.step for record in outcome.records] == list(range(1, 31))
    assert outcome.effective["lr_changed_by"] == "scheduler"
    assert (batches[-1].last_step, batches[-1].records_size) == (30, (script.parent / "run" / "steps-rank0.jsonl").stat().st_size)
    short, text = run(script, replay_key="00" * 16, keep_records=True, stop_after=10, checks=False)
    assert (short.exit_code, short.steps, short.stopped, text) == (0, 10, True, "")
    assert [r.fingerprint for r in short.records] == [r.fingerprint for r in outcome.records[:10]]
    other, _ = run(script, replay_key="00" * 16, keep_records=True, stop_after=10, env={"LR": "0.02"})
    assert other.records[0].fingerprint != outcome.records[0].fingerprint
    assert other.records[0].loss == outcome.records[0].loss


def test_learning_rate_by_environment_variable(script: Path) -> None:
    """The file says 0.01, an environment variable 0.1: seen at step 1 although a scheduler has already scaled it."""
    reference = Reference(values={"lr": 0.01}, origins={"lr": "config.yaml lr"}, certain=frozenset({"lr"}))
    assert rules(run(script, env={"LR": "0.1"}, reference=reference)[0]) == [("hyperparameter-drift", 1)]
    assert run(script, reference=reference)[0].findings == ()


ATTACKS = {
    "edit between steps": ("if step == 12:\n  with torch.no_grad(): model[0].weight.add_(1e-4)", ("changed-between-steps", 13)),
    "weight decay in the live optimizer": (
        "if step == 9: optimizer.param_groups[0]['weight_decay'] = 0.0",
        ("hyperparameter-drift", 10),
    ),
    "betas in the live optimizer": (
        "if step == 9: optimizer.param_groups[0]['betas'] = (0.9, 0.9)",
        ("hyperparameter-drift", 10),
    ),
    "eps inside step": (
        "if step == 9:\n  import torch.optim.adam as a; f = a.adam; a.adam = lambda *x, **k: f(*x, **{**k, 'eps': 1e-4})",
        ("update-mismatch", 10),
    ),
    "learning rate inside step": (
        "if step == 9:\n  import torch.optim.adam as a; f = a.adam; a.adam = lambda *x, **k: f(*x, **{**k, 'lr': k['lr'] * 1.001})",
        ("update-mismatch", 10),
    ),
    "hooks taken out": (
        "if step == 9: [getattr(sys.modules['torch.optim.optimizer'], f'_global_optimizer_{x}_hooks').clear() for x in ('pre', 'post')]",
        ("probe-silent", 9),
    ),
    "loss not a number": (
        "if step == 9:\n  with torch.no_grad(): model[0].weight.fill_(float('nan'))",
        ("metric-not-finite", 10),
    ),
}


QUICK = ("edit between steps", "betas in the live optimizer", "learning rate inside step", "hooks taken out")


@pytest.mark.parametrize("attack", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ATTACKS])
def test_attacks_from_inside_the_script(script: Path, attack: str) -> None:
    """One attack each in a real process; the clean twin is test_clean_run_is_recorded_and_replays."""
    code, expected = ATTACKS[attack]
    assert expected in rules(run(script, PYTHON, script.name, code)[0])


def test_checkpoint_loaded_between_steps(script: Path) -> None:
    """The accept twin of edits: going back to earlier weights and optimizer state through load_state_dict is legal."""
    code = (
        "import copy\nif step == 5: saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))\n"
        "if step == 15: model.load_state_dict(saved[0]); optimizer.load_state_dict(saved[1])"
    )
    assert run(script, PYTHON, script.name, code)[0].findings == ()


def test_training_killed_from_outside(script: Path) -> None:
    """Somebody kills the training process: exit code 137 and a finding that says so."""
    outcome, _ = run(script, PYTHON, script.name, "if step == 20: os.kill(os.getpid(), 9)")
    assert outcome.exit_code == 137
    assert rules(outcome) == [("process-killed", 20)]


@pytest.mark.slow
def test_killed_behind_a_shell_script(script: Path) -> None:
    """The same in a process that a shell script starts."""
    shell = script.parent / "go.sh"
    shell.write_text(f'"{PYTHON}" train.py "if step == 20: os.kill(os.getpid(), 9)"\n')
    outcome, _ = run(script, "bash", "go.sh")
    assert (outcome.exit_code, rules(outcome)) == (137, [("process-killed", 20)])


def test_own_exception_is_no_finding(script: Path) -> None:
    """The accept twin: the program's own exception."""
    outcome, text = run(script, PYTHON, script.name, "if step == 20: raise ValueError('mine')")
    assert (outcome.exit_code, outcome.findings, outcome.steps) == (1, (), 20)
    assert "ValueError: mine" in text


def test_module_and_metrics(script: Path) -> None:
    """python -m, behind a shell; metrics arrive with the step they were reported at."""
    command = f'"{PYTHON}" -m train "import truerun; truerun.log(accuracy=step / 30, nothing=object())"'
    outcome, _ = run(script, "bash", "-c", command)
    assert (outcome.exit_code, outcome.steps, outcome.metrics) == (0, 30, {"accuracy": 1.0})
    assert [point.step for point in outcome.points] == list(range(1, 31))


def test_tensorboard_scalars_are_metrics(script: Path) -> None:
    """SummaryWriter.add_scalar reports without a change to the script."""
    code = (
        "if step == 1:\n  from torch.utils.tensorboard import SummaryWriter\n  writer = SummaryWriter('logs')\n"
        "writer.add_scalar('train/loss', loss, step)\nif step == 30: writer.close()"
    )
    outcome, _ = run(script, PYTHON, script.name, code)
    assert outcome.exit_code == 0
    assert set(outcome.metrics) == {"train/loss"}
    assert len(outcome.points) == 30


def test_training_that_avoids_the_probe(script: Path) -> None:
    """python -I ignores PYTHONPATH, so nothing is recorded: that itself is a finding."""
    outcome, _ = run(script, PYTHON, "-I", script.name, "import time; time.sleep(0.15)")
    assert (outcome.exit_code, outcome.steps) == (0, 0)
    assert rules(outcome) == [("probe-silent", None)]


@pytest.mark.slow
def test_two_ranks_under_torchrun(script: Path) -> None:
    """Each worker of torchrun has its own records."""
    command = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29577", script.name)
    outcome, _ = run(script, PYTHON, *command)
    assert (outcome.exit_code, outcome.ranks, outcome.steps) == (0, 2, 30)
    assert outcome.findings == ()
    assert (script.parent / "run" / "steps-rank1.jsonl").is_file()


def test_time_runs_out(script: Path) -> None:
    """A rerun that takes longer than allowed is ended, and says so."""
    outcome, _ = run(script, "sleep", "60", timeout_seconds=0.5)
    assert outcome.timed_out
    assert outcome.seconds < 10


def test_signals_are_passed_on(script: Path) -> None:
    """SIGTERM to the agent reaches the command, which ends in its own way; that is a note and no more."""
    found: list[Finding] = []
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    outcome, text = run(script, "sh", "-c", "trap 'echo bye; exit 3' TERM; sleep 30 & wait", on_finding=found.append)
    assert (outcome.exit_code, text) == (3, "bye\n")
    assert found == []


def test_run_folder_cannot_be_written(script: Path) -> None:
    """The folder for records is a file: the command runs all the same, and the trouble is named."""
    (script.parent / "run").write_text("in the way")
    outcome, text = run(script, "echo", "hello")
    assert (outcome.exit_code, text) == (0, "hello\n")
    assert outcome.trouble


@pytest.mark.slow
def test_torch_processes_are_found_from_outside(script: Path) -> None:
    """A process with torch in memory shows in /proc, whether or not it reports."""
    with subprocess.Popen([PYTHON, "-c", "import torch, time; time.sleep(30)"]) as child:
        until = time.monotonic() + 25
        while not process.torch_processes(child.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert process.torch_processes(child.pid) == {child.pid}
        child.kill()


def test_forks_of_a_watched_process_carry_the_probe(tmp_path: Path) -> None:
    """The accept twin: a data loader's workers are forks; a Python started anew from the same process is not one."""
    code = (
        "import mmap, os, subprocess, sys, time\n"
        "held = open('libtorch_cpu.so', 'rb'); mapped = mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "fork = os.fork() or time.sleep(30)\n"
        'again = \'import mmap, time; f = open("libtorch_cpu.so", "rb"); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); time.sleep(30)\'\n'
        "anew = subprocess.Popen([sys.executable, '-c', again])\n"
        "print(fork, anew.pid, flush=True); time.sleep(30)\n"
    )
    (tmp_path / "libtorch_cpu.so").write_bytes(b"not really torch")
    with subprocess.Popen(
        [PYTHON, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        fork, anew = map(int, parent.stdout.readline().split())
        until = time.monotonic() + 20
        while anew not in process.torch_processes(parent.pid) and time.monotonic() < until:
            time.sleep(0.05)
        try:
            assert process.torch_processes(parent.pid) == {parent.pid, fork, anew}
            assert process.torch_processes(parent.pid, {parent.pid}) == {anew}
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
