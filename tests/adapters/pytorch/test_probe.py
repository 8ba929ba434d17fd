"""The probe's view of what legally changes an optimizer between steps."""

from __future__ import annotations

from types import SimpleNamespace

import torch

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
