"""Rule stepped-twice: one backward, two steps."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.monitoring.loop import RULES, model, watching


def test_two_steps_for_each_backward(tmp_path: Path) -> None:
    """A wrapper steps and the loop steps too: said at the second time, by step and optimizer."""
    network = model()
    optimizer = RULES["SGD"](network.parameters())
    with watching(tmp_path) as observer:
        for _ in range(5):
            optimizer.zero_grad()
            network(torch.randn(8, 16)).pow(2).mean().backward()
            optimizer.step()
            optimizer.step()
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step) == ("stepped-twice", 4)


def test_two_optimizers_share_one_backward(tmp_path: Path) -> None:
    """The accept twin: an encoder's and a head's optimizer step one after the other on the gradients of one backward."""
    network = model()
    halves = [RULES["SGD"](network[0].parameters()), RULES["Adam"](network[2:].parameters())]
    with watching(tmp_path) as observer:
        for _ in range(10):
            network(torch.randn(8, 16)).pow(2).mean().backward()
            for half in halves:
                half.step()
            network.zero_grad()
    assert observer.findings == ()


def test_constant_gradients(tmp_path: Path) -> None:
    """The accept twin: a linear loss has the same gradient at every step, computed anew by its own backward."""
    weights = torch.nn.Parameter(torch.zeros(4))
    optimizer = RULES["SGD"]([weights])
    with watching(tmp_path) as observer:
        for _ in range(10):
            optimizer.zero_grad()
            weights.sum().backward()
            optimizer.step()
    assert observer.findings == ()


def test_the_same_gradient_written_again(tmp_path: Path) -> None:
    """The accept twin: after some steps with backward(), equal gradients are written in place by hand."""
    weights = torch.nn.Parameter(torch.zeros(4))
    optimizer = RULES["SGD"]([weights])
    with watching(tmp_path) as observer:
        for step in range(20):
            if step < 4:
                optimizer.zero_grad()
                weights.sum().backward()
            else:
                assert weights.grad is not None
                weights.grad.copy_(torch.ones(4))
            optimizer.step()
    assert observer.findings == ()
