"""Rule gradients-not-cleared: the sum of everything since step 1, mistaken for a gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import RULES, model, train, watching

from truerun.core.finding import Severity


def batch(step: int) -> torch.Tensor:
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(step))


def test_zero_grad_forgotten(tmp_path: Path) -> None:
    """The loop calls backward() and step() and never zero_grad(): said at the third step."""
    network = model()
    optimizer = RULES["SGD"](network.parameters())
    with watching(tmp_path) as observer:
        for step in range(10):
            network(batch(step)).pow(2).mean().backward()
            optimizer.step()
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step, finding.severity) == ("gradients-not-cleared", 3, Severity.ERROR)
    assert finding.evidence["looked"] == 3


def test_zero_grad_of_another_network(tmp_path: Path) -> None:
    """The generator's loop clears the discriminator's gradients and not its own: only the generator's optimizer is named."""
    made, other = torch.nn.Linear(16, 4), torch.nn.Linear(16, 4)
    first, second = RULES["SGD"](made.parameters()), RULES["Adam"](other.parameters())
    with watching(tmp_path) as observer:
        for step in range(10):
            second.zero_grad()
            other(batch(step)).pow(2).mean().backward()
            second.step()
            other.zero_grad()
            made(batch(step)).pow(2).mean().backward()
            first.step()
    assert [(f.rule, f.subject.name) for f in observer.findings] == [("gradients-not-cleared", "torch.optim.sgd.SGD")]


def test_a_tensor_outside_of_the_model(tmp_path: Path) -> None:
    """model.zero_grad() misses a temperature that the optimizer holds beside the model: a warning with its name."""
    network, temperature = torch.nn.Linear(16, 1), torch.nn.Parameter(torch.ones(1))
    optimizer = RULES["SGD"]([*network.parameters(), temperature])
    with watching(tmp_path) as observer:
        for step in range(10):
            network.zero_grad()
            (network(batch(step)) * temperature).pow(2).mean().backward()
            optimizer.step()
    (finding,) = observer.findings
    assert (finding.rule, finding.severity) == ("gradients-not-cleared", Severity.WARNING)
    assert finding.evidence["tensors"] == ["tensor 2"]


def clear_none(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            tensor.grad = None


def clear_data(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if tensor.grad is not None:
                tensor.grad.data.zero_()


CLEARINGS = {
    "zero_grad": lambda optimizer: optimizer.zero_grad(),
    "in place": lambda optimizer: optimizer.zero_grad(set_to_none=False),
    "grad = None": clear_none,
    "grad.data.zero_()": clear_data,
}


@pytest.mark.parametrize("clear", CLEARINGS.values(), ids=CLEARINGS)
@pytest.mark.parametrize("when", ["after step", "before backward"])
def test_ways_to_clear(tmp_path: Path, clear: Any, when: str) -> None:
    """The accept twins: every way to clear gradients, at either place, with two micro-batches a step."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    with watching(tmp_path) as observer:
        for step in range(12):
            if when == "before backward":
                clear(optimizer)
            for micro in range(2):
                network(batch(2 * step + micro)).pow(2).mean().backward()
            optimizer.step()
            if when == "after step":
                clear(optimizer)
    assert observer.findings == ()


@pytest.mark.parametrize("clear", CLEARINGS.values(), ids=CLEARINGS)
def test_two_networks_take_turns(tmp_path: Path, clear: Any) -> None:
    """The accept twin: the generator's backward fills the discriminator's gradients too; they are cleared before its own."""
    made, judge = torch.nn.Linear(16, 16), torch.nn.Linear(16, 1)
    first, second = RULES["Adam"](made.parameters()), RULES["SGD momentum"](judge.parameters())
    with watching(tmp_path) as observer:
        for step in range(12):
            clear(second)
            (judge(batch(step)).mean() - judge(made(batch(step)).detach()).mean()).backward()
            second.step()
            clear(first)
            judge(made(batch(step))).mean().backward()
            first.step()
    assert observer.findings == ()


def test_a_closure_clears(tmp_path: Path) -> None:
    """The accept twin: LBFGS calls its closure, which clears and computes, many times within one step."""
    network = torch.nn.Linear(16, 1)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (network(batch(0)) - 1).pow(2).mean()
        loss.backward()
        return loss

    with watching(tmp_path) as observer:
        for _ in range(8):
            optimizer.step(closure)
    assert {finding.rule for finding in observer.findings} <= {"update-unchecked"}


def test_gradients_by_hand(tmp_path: Path) -> None:
    """The accept twin: gradients from torch.autograd.grad are put in place by assignment, without backward()."""
    network = model()
    optimizer = RULES["Adam"](network.parameters())
    with watching(tmp_path) as observer:
        for step in range(10):
            gradients = torch.autograd.grad(network(batch(step)).pow(2).mean(), list(network.parameters()))
            for tensor, gradient in zip(network.parameters(), gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
    assert observer.findings == ()


def test_the_ordinary_loop(tmp_path: Path) -> None:
    """The accept twin of all: zero_grad, backward, step."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, RULES["SGD"](network.parameters()), 20)
    assert observer.findings == ()
