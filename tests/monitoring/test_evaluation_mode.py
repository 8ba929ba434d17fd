"""Rule evaluation-mode: a model that is measured with something missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import RULES, watching
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the name that everybody gives it)

from truerun.apps.observing import Observer
from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference

ORIGINALS = (F.dropout, F.batch_norm, F.scaled_dot_product_attention)


class Net(nn.Module):
    """With a dropout of its own making: *drop*(module, x)."""

    def __init__(self, drop: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Dropout(0.1))
        self.head = nn.Linear(32, 4)
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self, self.body(x)))


def proper(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, 0.1, training=module.training)


def always(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, 0.1)


def attention(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(-1, 1, 4, 8)
    return F.scaled_dot_product_attention(q, q, q, dropout_p=0.1).reshape(x.shape)


def run(
    folder: Path, evaluate: Callable[[Any, int], object], drop: Any = proper, reference: Reference | None = None, steps: int = 9
) -> Observer:
    torch.manual_seed(0)
    net = Net(drop)
    optimizer = RULES["AdamW"](net.parameters())
    with watching(folder, reference) as observer:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            net(torch.randn(8, 16)).pow(2).mean().backward()
            optimizer.step()
            if step % 3 == 0:
                evaluate(net, step)
                net.train()
    assert (F.dropout, F.batch_norm, F.scaled_dot_product_attention) == ORIGINALS
    return observer


def validation(net: Any, step: int) -> None:
    net.eval()
    with torch.no_grad():
        for _ in range(4):
            net(torch.randn(8, 16))


def forgotten(net: Any, step: int) -> None:
    with torch.inference_mode():
        for _ in range(4):
            net(torch.randn(8, 16))


@torch.no_grad()
def decorated(net: Any, step: int) -> None:
    for _ in range(4):
        net(torch.randn(8, 16))


@pytest.mark.parametrize("drop", [always, attention])
def test_dropout_that_ignores_evaluation_mode(tmp_path: Path, drop: Any) -> None:
    """Functional dropout without training=self.training, or attention with a constant dropout: the line, at the first validation."""
    (finding,) = run(tmp_path, validation, drop).findings
    assert (finding.rule, finding.location.step, finding.evidence["term"]) == ("evaluation-mode", 3, "ignores")
    assert finding.location.path == __file__
    assert finding.location.line == drop.__code__.co_firstlineno + (2 if drop is attention else 1)


@pytest.mark.parametrize("evaluate", [forgotten, decorated])
def test_evaluated_in_training_mode(tmp_path: Path, evaluate: Any) -> None:
    """eval() is forgotten before the validation: a warning that names the modules."""
    (finding,) = run(tmp_path, evaluate).findings
    assert (finding.rule, finding.location.step, finding.severity) == ("evaluation-mode", 3, Severity.WARNING)
    assert finding.evidence["modules"] == ["body.1", "body.2", ""]


def test_not_so_in_the_approved_run(tmp_path: Path) -> None:
    """The approved run of the same program evaluated without dropout; now some is at work: an error."""
    approved = run(tmp_path / "approved", validation)
    assert approved.findings == ()
    reference = Reference(learned=approved.effective["learned"], learned_from="run 7 (entry 3)", same_program=True)
    assert [f.severity for f in run(tmp_path / "now", forgotten, reference=reference).findings] == [Severity.ERROR]
    assert run(tmp_path / "twin", validation, reference=reference).findings == ()


def test_declared(tmp_path: Path) -> None:
    """[training] dropout_in_evaluation: false makes it an error, true (Monte Carlo dropout) is the accept twin."""
    strict = Reference(values={"dropout_in_evaluation": False})
    assert [f.severity for f in run(tmp_path / "a", validation, always, strict).findings] == [Severity.ERROR]
    assert run(tmp_path / "b", validation, always, Reference(values={"dropout_in_evaluation": True})).findings == ()


def one_pass(net: Any, step: int) -> None:
    """What a GAN or a self-taught model does: a single pass without gradients in training mode."""
    with torch.no_grad():
        net(torch.randn(8, 16))


def recalibrate(net: Any, step: int) -> None:
    torch.optim.swa_utils.update_bn([torch.randn(8, 16) for _ in range(6)], net)


def scripted(net: Any, step: int) -> None:
    net.eval()
    with torch.no_grad():
        torch.jit.script(nn.Sequential(nn.Linear(16, 4), nn.Dropout(0.1)))(torch.randn(2, 16))


def teacher(net: Any, step: int) -> None:
    other = Net(proper)
    with torch.no_grad():
        for _ in range(6):
            other(torch.randn(8, 16))


def augmented(net: Any, step: int) -> None:
    net.eval()
    with torch.no_grad():
        for _ in range(4):
            net(F.dropout(torch.randn(8, 16), 0.1))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("evaluate", [validation, one_pass, recalibrate, scripted, teacher, augmented])
def test_honest_evaluations(tmp_path: Path, evaluate: Any) -> None:
    """The accept twins: in evaluation mode; single passes; batch norm recalibrated; a script made; another model; noise as data."""
    assert run(tmp_path, evaluate).findings == ()


def test_checkpointing(tmp_path: Path) -> None:
    """The accept twin: recomputing activations runs the forward pass without gradients first, in training mode."""
    from torch.utils.checkpoint import checkpoint

    net = Net(proper)
    optimizer = RULES["AdamW"](net.parameters())
    with watching(tmp_path) as observer:
        for _ in range(6):
            optimizer.zero_grad()
            x = torch.randn(8, 16, requires_grad=True)
            loss = sum(checkpoint(net, x, use_reentrant=True).pow(2).mean() for _ in range(4))
            loss.backward()
            optimizer.step()
    assert observer.findings == ()
