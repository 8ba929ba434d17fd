"""`truerun.watch` from inside a process that `truerun run` did not start: real agent, real probe, this very process."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import Loop, model, train

import truerun
from truerun.adapters.pytorch import probe, reading
from truerun.adapters.pytorch.settings import SOCKET
from truerun.core.errors import UsageError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without a project; whatever a test forgets to close is closed."""
    monkeypatch.chdir(tmp_path)
    yield
    probe.stop()


def state() -> tuple[Any, ...]:
    """What watching puts into torch."""
    hooks = importlib.import_module("torch.optim.optimizer")
    return (
        torch.autograd.backward,
        torch.nn.Module.load_state_dict,
        torch.optim.Optimizer.load_state_dict,
        len(hooks._global_optimizer_pre_hooks),
        len(hooks._global_optimizer_post_hooks),
        os.environ.get(SOCKET),
    )


def trained(steps: int = 20, **each: Any) -> tuple[list[float], list[Any], Any]:
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = train(network, optimizer, steps, **each)
    return losses, [tensor.detach().clone() for tensor in network.parameters()], torch.rand(1)


def test_edit_between_steps_in_a_notebook(capfd: pytest.CaptureFixture[str]) -> None:
    """A cell edits a weight behind the optimizer's back: found in another process, shown here, with the model's own name for it."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    watch = truerun.watch(network, optimizer, [1, 2, 3])
    assert watch.verdict is None

    def edit(step: int) -> None:
        if step == 9:
            with torch.no_grad():
                network[0].weight.add_(1e-3)

    train(network, optimizer, 20, edit)
    watch.close()
    assert [(finding.rule, finding.location.step) for finding in watch.findings] == [("changed-between-steps", 10)]
    assert watch.verdict == "fail"
    assert "0.weight" in watch.findings[0].message
    shown = capfd.readouterr().err
    assert "error: changed-between-steps" in shown
    assert f"run {watch.run}: fail" in shown


def test_clean_training_is_bit_for_bit_what_it_is_without(capfd: pytest.CaptureFixture[str]) -> None:
    """The twin: same losses, weights and random numbers, nothing found, and torch afterwards as it was before."""
    torch.manual_seed(0)
    alone = trained()
    before = state()
    torch.manual_seed(0)
    with truerun.watch() as watch:
        assert state() != before
        seen = trained(each=lambda step: truerun.log(step=step))
    assert seen[0] == alone[0]
    assert all(torch.equal(a, b) for a, b in zip(seen[1], alone[1], strict=True))
    assert torch.equal(seen[2], alone[2])
    assert (watch.findings, watch.verdict, state()) == ((), "pass", before)
    assert "20 steps" in capfd.readouterr().err
    assert not os.path.exists(".truerun")


def test_attached_in_the_middle_of_training() -> None:
    """An optimizer that has made steps already has a state and a step counter: that is no finding."""
    network = model()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    train(network, optimizer, 7)
    with truerun.watch(network, optimizer) as watch:
        train(network, optimizer, 7)
    assert (watch.findings, watch.verdict) == ((), "pass")


def test_exception_in_the_block_goes_its_way() -> None:
    """The program's own error reaches the program; the run did not pass, and nothing is found that was not there."""
    watch = truerun.watch()

    def fail(_: int) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), watch:
        trained(each=fail)
    assert (watch.findings, watch.verdict) == ((), "fail")


def test_second_watch_is_refused_and_the_first_goes_on() -> None:
    """A cell that is run twice: a clear error, and after `close` a new run."""
    first = truerun.watch()
    with pytest.raises(UsageError, match="watched already"):
        truerun.watch()
    trained(6)
    first.close()
    first.close()
    assert first.verdict == "pass"
    with truerun.watch(run_id="again") as second:
        trained(6)
    assert (second.run, second.verdict) == ("again", "pass")


def test_agent_killed(capfd: pytest.CaptureFixture[str]) -> None:
    """Somebody kills the agent: training goes on, also where a broken pipe would end the program, and `close` says it."""
    usual = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with truerun.watch() as watch:
            trained(5)
            line = probe.current().channel._socket
            agent, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            os.kill(agent, signal.SIGKILL)
            assert len(trained(20)[0]) == 20
    finally:
        signal.signal(signal.SIGPIPE, usual)
    assert watch.verdict is None
    assert "ended before the watch did" in capfd.readouterr().err


def test_program_with_many_files_open() -> None:
    """More than a thousand descriptors, beyond what select can name: watched all the same, update by update."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with truerun.watch() as watch:
            trained(6)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (watch.verdict, watch.findings) == ("pass", ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18",), "not a model"),
        ((None, torch.nn.Linear(1, 1)), "optimizer to watch is not one"),
        ((None, None, 12), "gives no batches"),
        ((torch.nn.Linear(2, 2), torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)), "none of the model's parameters"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], message: str) -> None:
    """A bad question is refused at once, before anything starts; the last one is a training that would change nothing."""
    before = state()
    with pytest.raises(UsageError, match=message):
        truerun.watch(*arguments)
    assert state() == before


def test_declaration_that_cannot_be_read(tmp_path: Path) -> None:
    """What the agent refuses is raised here, with file and line."""
    (tmp_path / "truerun.toml").write_text("[project\n")
    with pytest.raises(UsageError, match=r"truerun\.toml"):
        truerun.watch()
    with pytest.raises(UsageError, match="elsewhere"):
        truerun.watch(config="elsewhere.toml")


def test_under_truerun_run_it_only_gives_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same script under `truerun run`: nothing is started twice; the tensors are called as the model calls them."""
    watched = probe.Probe(probe.Settings(), Loop(None))  # type: ignore[arg-type]
    monkeypatch.setattr(probe, "_probe", watched)
    network = model()
    holder = torch.nn.ModuleDict({"a_longer_name_than_the_models_own": network})
    assert reading.names_of([network[0].weight]) == ["a_longer_name_than_the_models_own.0.weight"]
    with truerun.watch(network) as watch:
        assert probe.current() is watched
    assert (watch.run, watch.findings, probe.current()) == (None, (), watched)
    assert reading.names_of([network[0].weight]) == ["0.weight"]
    assert holder is not None
    monkeypatch.setattr(probe, "_probe", None)


def test_names_keep_no_model_alive() -> None:
    """A model that was named and deleted is gone."""
    network = model()
    reading.name_after(network)
    gone = reading._given[-1]
    del network
    assert gone() is None


SCRIPT = """
import os, sys, torch, truerun
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = truerun.watch(model, optimizer, run_id="from-a-script")
def steps(n):
    for _ in range(n):
        optimizer.zero_grad(); model(torch.ones(3, 4)).square().sum().backward(); optimizer.step()
steps(10)
"""


def script(rest: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT + rest], capture_output=True, text=True, check=False, timeout=120)
    return done.stderr


def test_killed_training_process_is_reported_by_the_agent() -> None:
    """Somebody kills the training process: the agent outlives it and says so, although it is nobody's parent."""
    shown = script("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "process-killed" in shown
    assert "after step 10" in shown


@pytest.mark.slow
def test_forks_and_the_end_of_the_script() -> None:
    """
    One fork ends, another trains, both hold a copy of the watch: no finding, and no false report of steps that are missing.

    The script ends without `close`: the verdict comes all the same, and after an exception it is not "pass".
    """
    fork = "pid = os.fork()\nif pid == 0: {}; sys.exit(3)\nos.waitpid(pid, 0)\n"
    shown = script(fork.format("pass") + fork.format("steps(7)") + "steps(5)")
    assert "run from-a-script: pass · 15 steps · nothing found" in shown
    assert "the command ended with 1" in script("raise ValueError('mine')")
