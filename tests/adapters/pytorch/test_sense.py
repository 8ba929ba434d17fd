"""Senses: what one looks at arrives at its judge; what goes wrong in one stays in it."""

from __future__ import annotations

import signal

import pytest
import torch
from tests.monitoring.loop import model, train, watching

from truerun.adapters.pytorch import senses
from truerun.adapters.pytorch.sense import Sense
from truerun.apps import judging
from truerun.apps.judging.judge import Judge
from truerun.core.finding import Confidence, Severity, Subject
from truerun.core.rule import Rule

RULE = Rule(id="test-rule", summary="a rule of this test", severity=Severity.NOTE, confidence=Confidence.CERTAIN)


class Counting(Sense):
    """Counts calls of zero_grad, and hands over a frame when the process ends."""

    name = "counting"
    calls = 0

    def install(self):
        self.wrap(torch.optim.Optimizer, "zero_grad", before=self.saw)

    def saw(self, *_, **__):
        self.calls += 1

    def after_step(self, watched, optimizer):
        self.extra["calls"] = self.calls

    def goodbye(self):
        self.probe.channel.send({"kind": "counted", "calls": self.calls})


class Failing(Sense):
    """Meets a fault at the third step."""

    name = "failing"

    def after_step(self, watched, optimizer):
        self.extra["steps"] = self.probe.steps
        if self.probe.steps == 3:
            raise RuntimeError("out of order")


class Counted(Judge):
    """Says what arrived."""

    name = "counting"
    kinds = frozenset({"counted"})
    rows: list[int] = []  # noqa: RUF012 (the test reads it)

    def step(self, known, record, notes, extra):
        self.rows.append(extra["calls"])
        return ()

    def take(self, known, frame):
        return (RULE.finding(Subject(kind="run", name="zero_grad"), f"called {frame.header['calls']} times"),)

    def learned(self):
        return {"calls": self.rows[-1]}


def watch(monkeypatch, tmp_path, *pieces, judges=()):
    monkeypatch.setattr(senses, "SENSES", pieces)
    monkeypatch.setattr(judging, "JUDGES", judges)
    network = model()
    with watching(tmp_path) as observer:
        train(network, torch.optim.SGD(network.parameters(), lr=0.1), 5)
    return observer


def test_a_sense_speaks_to_its_judge(monkeypatch, tmp_path):
    """Values travel with each step and in frames; what the judge learned goes into the record of the run."""
    original = torch.optim.Optimizer.zero_grad
    Counted.rows = []
    observer = watch(monkeypatch, tmp_path, Counting, judges=(Counted,))
    assert Counted.rows == [1, 2, 3, 4, 5]
    assert [finding.message for finding in observer.findings] == ["called 5 times"]
    assert observer.effective["learned"] == {"counting": {"calls": 5}}
    assert torch.optim.Optimizer.zero_grad is original


def test_a_fault_of_a_sense_is_its_own(monkeypatch, tmp_path):
    """The others go on, the updates are attested as before, the program notices nothing; the fault is said."""
    Counted.rows = []
    observer = watch(monkeypatch, tmp_path, Failing, Counting, judges=(Counted,))
    assert Counted.rows == [1, 2, 3, 4, 5]
    assert sum(record.checked for record in observer.records) == 5
    fault = observer.findings[0]
    assert (fault.rule, fault.subject.key, fault.location.step) == ("probe-silent", "failing", 2)
    assert "watches failing no longer" in fault.message
    assert "out of order" in fault.message


def test_a_frame_that_its_judge_cannot_read_counts_as_not_received(monkeypatch, tmp_path):
    """Whoever controls the process may send anything: it neither stops the agent nor counts as seen."""

    class Lying(Counting):
        def goodbye(self):
            self.probe.channel.send({"kind": "counted"})

    Counted.rows = []
    assert watch(monkeypatch, tmp_path, Lying, judges=(Counted,)).findings == ()


def test_each_sense_has_an_account_of_its_own(monkeypatch, tmp_path):
    """What a sense costs is kept by its name and part of the whole; what arrives of it is counted."""
    Counted.rows = []
    observer = watch(monkeypatch, tmp_path, Counting, Failing, judges=(Counted,))
    assert set(observer.spent_by) == {"counting", "failing"}
    assert 0 < sum(observer.spent_by.values()) < observer.spent
    looks = observer.looks
    assert (looks["update"], looks["counting"], looks["continuity"]) == (5, 1, 4)
    assert looks["held"] >= 4 * looks["coordinates"] > 0


def test_a_scaled_loss_is_recorded_as_it_was(tmp_path):
    """A GradScaler doubles its scale on the way and the gradients are scaled; the recorded loss is the program's, without jumps."""
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    losses = []
    with watching(tmp_path) as observer:
        for _ in range(6):
            optimizer.zero_grad()
            loss = network(torch.randn(8, 16)).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses.append(loss.item())
    assert scaler.get_scale() > 1024
    assert [record.loss for record in observer.records] == losses


def test_an_error_of_a_signal_handler_is_the_programs(monkeypatch, tmp_path):
    """torch's data loader raises in a handler when a worker is killed, wherever the process is, so also inside of a sense."""

    def handler(number, frame):
        raise ConnectionError("a worker is gone")

    class Interrupted(Sense):
        name = "interrupted"

        def after_step(self, watched, optimizer):
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(ConnectionError, match="a worker is gone"):
            watch(monkeypatch, tmp_path, Interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)
