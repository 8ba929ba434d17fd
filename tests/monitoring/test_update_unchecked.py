"""Rule update-unchecked: "could not tell" is said once, in words."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.monitoring.loop import model, train, watching

from truerun.core.finding import Severity


def test_unknown_optimizer_is_said_once(tmp_path: Path) -> None:
    """Rprop is none of the rules known here: a note, and nothing else."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, torch.optim.Rprop(network.parameters()), 8)
    (finding,) = observer.findings
    assert (finding.rule, finding.severity) == ("update-unchecked", Severity.NOTE)
    assert observer.unseen
    assert observer.steps == 8


def test_subclass_may_do_anything(tmp_path: Path) -> None:
    """A subclass of AdamW is not taken for AdamW."""

    class Mine(torch.optim.AdamW):
        pass

    network = model()
    with watching(tmp_path) as observer:
        train(network, Mine(network.parameters()), 6)
    assert [finding.rule for finding in observer.findings] == ["update-unchecked"]


def test_half_precision_where_a_kernel_does_something_else(tmp_path: Path) -> None:
    """Adagrad's fused kernel rounds some coordinates otherwise than it documents: that is said once, and no step is accused."""
    network = model().bfloat16()
    optimizer = torch.optim.Adagrad(network.parameters(), fused=True)
    with watching(tmp_path) as observer:
        for _ in range(6):
            optimizer.zero_grad()
            network(torch.ones(4, 16, dtype=torch.bfloat16)).float().pow(2).mean().backward()
            optimizer.step()
    assert ["in half precision" in finding.message for finding in observer.findings] == [True]


def test_known_optimizer_says_nothing(tmp_path: Path) -> None:
    """The accept twin."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, torch.optim.SGD(network.parameters(), lr=0.1), 6)
    assert observer.unseen == []
