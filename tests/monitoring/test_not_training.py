"""Rule not-training: what is meant to move stays."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.monitoring.freezing import Network, freeze, learn, learned
from tests.monitoring.loop import RULES, watching

from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference


def test_the_optimizer_holds_the_head_only(tmp_path: Path) -> None:
    """Gradients of the backbone are computed at every step and nobody uses them: a warning by step 8."""
    (finding,) = learn(tmp_path, held=lambda network: network.head.parameters()).findings
    assert (finding.rule, finding.severity, finding.location.step) == ("not-training", Severity.WARNING, 8)
    assert finding.evidence["reasons"] == ["held by no optimizer"]
    assert "backbone.0.weight" in finding.message


def test_most_of_it_is_cut_off(tmp_path: Path) -> None:
    """A detach() in the forward pass: the backbone is held, asks for gradients and gets none."""
    (finding,) = learn(tmp_path, detached=True).findings
    assert (finding.rule, finding.severity) == ("not-training", Severity.WARNING)
    assert finding.evidence["reasons"] == ["without a gradient"]
    assert "of what the optimizer holds" in finding.message


def test_declared_to_train(tmp_path: Path) -> None:
    """[training] trained = ["backbone.*"], and it is frozen: an error at the first step."""
    (finding,) = learn(tmp_path, freeze, reference=Reference(values={"trained": ["backbone.*"]})).findings
    assert (finding.rule, finding.severity, finding.location.step) == ("not-training", Severity.ERROR, 1)
    assert learn(tmp_path / "twin", reference=Reference(values={"trained": ["backbone.*"]})).findings == ()


def test_it_trained_in_the_approved_run(tmp_path: Path) -> None:
    """The approved run trained the backbone; now it is frozen: an error for the same program."""
    approved = learn(tmp_path / "approved")
    found = learn(tmp_path / "now", freeze, reference=learned(approved)).findings
    assert [finding.severity for finding in found if finding.rule == "not-training"] == [Severity.ERROR]
    assert {finding.rule for finding in found} <= {"not-training", "gradient-drift"}  # its gradients are zero, too
    assert learn(tmp_path / "twin", reference=learned(approved)).findings == ()


def test_names_behind_wrappers(tmp_path: Path) -> None:
    """The accept twin: the approved run was not wrapped, this one is; the parameters have the same plain names."""
    approved = learn(tmp_path / "approved", freeze)
    wrapped = learn(tmp_path / "now", freeze, reference=learned(approved), wrap=torch.nn.DataParallel)
    assert wrapped.findings == ()


def test_a_frozen_backbone(tmp_path: Path) -> None:
    """The accept twin: frozen on purpose, with the optimizer given everything or the rest; and a part that is not used."""
    assert learn(tmp_path / "all", freeze).findings == ()
    assert learn(tmp_path / "head", freeze, lambda network: network.head.parameters()).findings == ()


def test_an_optimizer_that_begins_later(tmp_path: Path) -> None:
    """The accept twin: a critic that gets gradients through the actor from the start, and its own optimizer's steps from 20 on."""
    network = Network()
    first, second = RULES["Adam"](network.backbone.parameters()), RULES["Adam"](network.head.parameters())
    with watching(tmp_path) as observer:
        for step in range(30):
            first.zero_grad()
            second.zero_grad()
            network(torch.randn(8, 16)).pow(2).mean().backward()
            first.step()
            if step >= 20:
                second.step()
    assert observer.findings == ()


def test_a_target_network(tmp_path: Path) -> None:
    """The accept twin: a copy that follows by averaging has no gradients, no optimizer, and moves."""
    both = torch.nn.ModuleDict({"online": torch.nn.Linear(16, 4), "target": torch.nn.Linear(16, 4)})
    optimizer = RULES["Adam"](both["online"].parameters())
    with watching(tmp_path) as observer:
        for _ in range(12):
            optimizer.zero_grad()
            x = torch.randn(8, 16)
            with torch.no_grad():
                aim = both["target"](x)
            (both["online"](x) - aim - 1).pow(2).mean().backward()
            optimizer.step()
            with torch.no_grad():
                for target, online in zip(both["target"].parameters(), both["online"].parameters(), strict=True):
                    target.lerp_(online, 0.01)
    assert observer.findings == ()


def test_a_part_updated_by_hand(tmp_path: Path) -> None:
    """The accept twin: a temperature that the loop moves itself, with its gradient and without an optimizer."""
    network = torch.nn.ModuleDict({"body": torch.nn.Linear(16, 4)})
    network.register_parameter("scale", torch.nn.Parameter(torch.ones(1)))
    optimizer = RULES["Adam"](network["body"].parameters())
    with watching(tmp_path) as observer:
        for _ in range(12):
            network.zero_grad()
            (network["body"](torch.randn(8, 16)) * network.scale).pow(2).mean().backward()
            optimizer.step()
            with torch.no_grad():
                network.scale -= 0.1 * network.scale.grad
    assert observer.findings == ()
