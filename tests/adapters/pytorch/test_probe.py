"""The probe's view of what legally changes an optimizer between steps."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import torch

from truerun.adapters.pytorch.channel import Channel
from truerun.adapters.pytorch.probe import Probe
from truerun.adapters.pytorch.settings import Settings


class Nowhere:
    """A channel that nobody listens to."""

    dropped = 0

    def open(self, hello):
        return True

    def send(self, header, buffers=None):
        pass

    def receive(self, kind, optimizer, wait_seconds=0.0):
        return None


def watched_change(holder):
    """What is noted when a scheduler that holds *holder(optimizer)* lowers the learning rate."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
    probe = Probe(Settings(overhead=0.02, every=1, coordinates=8), Nowhere())
    probe.before_step(optimizer, (optimizer,), {})
    probe.after_step(optimizer, (optimizer,), {})
    scheduler = SimpleNamespace(optimizer=holder(optimizer))
    probe.scheduled(scheduler, "code")
    optimizer.param_groups[0]["lr"] = 0.05
    probe.scheduled(scheduler, "scheduler")
    assert not probe.off
    return probe.watched[optimizer].notes


def test_a_schedulers_change_is_its_own():
    """The scheduler holds the optimizer itself."""
    assert watched_change(lambda optimizer: optimizer) == ["scheduler.lr"]


def test_a_scheduler_may_hold_a_wrapper():
    """Accelerate, and with it the HF Trainer, gives schedulers a wrapper around the optimizer."""
    assert watched_change(lambda optimizer: SimpleNamespace(optimizer=optimizer)) == ["scheduler.lr"]


def test_a_stranger_explains_nothing():
    """The reject twin: a scheduler of something else, or one that holds itself, is no excuse."""
    loop = SimpleNamespace()
    loop.optimizer = loop
    assert watched_change(lambda _: loop) == []


def test_nobody_listens_any_more(tmp_path):
    """The agent is killed: the probe looks at nothing from then on, sends nothing, and training goes on as before."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)
    probe = Probe(Settings(every=1, coordinates=8), Channel(str(tmp_path / "s")))
    probe.channel.on_lost = probe.fall_silent
    assert probe.channel.open({"kind": "hello"})
    agent, _ = listener.accept()
    assert probe.channel.agent() == os.getpid()
    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weights], lr=0.1)
    probe.install()
    try:
        for step in range(8):
            if step == 3:
                agent.close()
                listener.close()
            weights.sum().backward()
            optimizer.step()
    finally:
        probe.uninstall()
    assert probe.off
    assert probe.channel.agent() == 0
    assert probe.steps in (3, 4)
    assert torch.allclose(weights.detach(), torch.full((3,), 1.0 - 0.1 * sum(range(1, 9))))
    probe.goodbye()
    probe.channel._socket.close()
