"""Rule evaluated-untrained: a division by a number that nobody has estimated yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tests.monitoring.loop import watching
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import spectral_norm as parametrized

from truerun.core.finding import Severity


def network(norm: Callable[[nn.Module], nn.Module] = spectral_norm) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(16, 8)), nn.ReLU(), norm(nn.Linear(8, 4)))


def evaluate(net: nn.Module) -> None:
    net.eval()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(2, 16))


def test_evaluated_first(tmp_path: Path) -> None:
    """A model is made and evaluated before its first step: one warning for each layer."""
    with watching(tmp_path) as observer:
        evaluate(network())
    assert [(f.rule, f.severity) for f in observer.findings] == [("evaluated-untrained", Severity.WARNING)] * 2
    assert observer.findings[0].subject.key == "Linear(in_features=16, out_features=8, bias=True)"


def test_a_pass_in_training_mode_first(tmp_path: Path) -> None:
    """The accept twin: one pass in training mode estimates."""
    with watching(tmp_path) as observer:
        net = network()
        net(torch.randn(2, 16))
        evaluate(net)
    assert observer.findings == ()


def test_a_loaded_estimate(tmp_path: Path) -> None:
    """The accept twin: a checkpoint brings the estimate with it."""
    other = network()
    other(torch.randn(2, 16))
    with watching(tmp_path) as observer:
        net = network()
        net.load_state_dict(other.state_dict())
        evaluate(net)
    assert observer.findings == ()


def test_the_parametrization(tmp_path: Path) -> None:
    """The accept twin: torch.nn.utils.parametrizations estimates when the layer is made."""
    with watching(tmp_path) as observer:
        evaluate(network(parametrized))
    assert observer.findings == ()
