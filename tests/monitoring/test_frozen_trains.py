"""Rule frozen-trains: what is meant to stay moves."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.monitoring.freezing import Network, freeze, learn, learned
from tests.monitoring.loop import watching

from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference

DECLARED = Reference(values={"frozen": ["backbone.*"]}, origins={"frozen": "truerun.toml [training] frozen"})


def test_declared_frozen_and_never_frozen(tmp_path: Path) -> None:
    """The function that freezes the stages is not called: their names at the first step."""
    (finding,) = learn(tmp_path, reference=DECLARED).findings
    assert (finding.rule, finding.severity, finding.location.step) == ("frozen-trains", Severity.ERROR, 1)
    assert finding.evidence["tensors"] == ["backbone.0.weight", "backbone.0.bias", "backbone.1.weight", "backbone.1.bias"]


def test_declared_frozen_and_frozen(tmp_path: Path) -> None:
    """The accept twin."""
    assert learn(tmp_path, freeze, reference=DECLARED).findings == ()


def test_frozen_in_the_approved_run(tmp_path: Path) -> None:
    """The approved run had a frozen backbone and this one has not: an error for the same program, else a warning."""
    approved = learn(tmp_path / "approved", freeze)
    assert approved.findings == ()
    (finding,) = learn(tmp_path / "same", reference=learned(approved)).findings
    assert (finding.rule, finding.severity) == ("frozen-trains", Severity.ERROR)
    assert "in run 7 (entry 3) they were not" in finding.message
    (finding,) = learn(tmp_path / "changed", reference=learned(approved, same_program=False)).findings
    assert finding.severity is Severity.WARNING
    assert learn(tmp_path / "twin", freeze, reference=learned(approved)).findings == ()


def test_a_pattern_that_names_nothing(tmp_path: Path) -> None:
    """`encoder.*` is declared and the model calls it backbone: nothing would be checked, and that is said."""
    (finding,) = learn(tmp_path, reference=Reference(values={"frozen": "encoder.*"})).findings
    assert (finding.rule, finding.severity) == ("frozen-trains", Severity.WARNING)
    assert "'encoder.*'" in finding.message


def test_a_pattern_for_one_of_two_models(tmp_path: Path) -> None:
    """The accept twin: a generator with a frozen backbone and a discriminator that has none."""
    other = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with watching(tmp_path, DECLARED) as observer:
        for _ in range(3):
            optimizer.zero_grad()
            other(torch.randn(2, 4)).sum().backward()
            optimizer.step()
        network = Network()
        freeze(network)
        rest = torch.optim.SGD(network.parameters(), lr=0.1)
        network(torch.randn(8, 16)).sum().backward()
        rest.step()
    assert observer.findings == ()


def test_another_model(tmp_path: Path) -> None:
    """The accept twin: a model with other parameters is not compared with the approved one."""
    approved = learn(tmp_path / "approved", freeze)
    assert learn(tmp_path / "now", lambda network: delattr(network, "spare"), reference=learned(approved)).findings == ()
