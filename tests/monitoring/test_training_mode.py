"""Rule training-mode: a model that is trained as if it were evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.monitoring.loop import RULES, watching

from truerun.apps.observing import Observer
from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 4)
    )


def run(
    folder: Path, each: Callable[[Any, int], object], *, net: Any = None, steps: int = 12, reference: Reference | None = None
) -> Observer:
    """Train for *steps*; each(network, step) runs before every step's forward pass."""
    net = network() if net is None else net
    optimizer = RULES["AdamW"](net.parameters())
    with watching(folder, reference) as observer:
        for step in range(1, steps + 1):
            each(net, step)
            optimizer.zero_grad()
            net(torch.randn(8, 16)).pow(2).mean().backward()
            optimizer.step()
    return observer


def evaluate(net: Any) -> None:
    with torch.no_grad():
        net(torch.randn(8, 16))


def said(observer: Observer) -> list[tuple[str, object, int | None, Severity]]:
    return [(f.rule, f.evidence["term"], f.location.step, f.severity) for f in observer.findings if f.rule == "training-mode"]


def validate(net: Any, step: int, *, back: bool) -> None:
    if step == 6:
        net.eval()
        evaluate(net)
        net.train(mode=back)


def test_left_in_evaluation_mode(tmp_path: Path) -> None:
    """After the first validation nobody calls train(): said three steps on, with the step it began at and the modules."""
    observer = run(tmp_path, lambda net, step: validate(net, step, back=False))
    assert said(observer) == [("training-mode", "left", 6, Severity.ERROR)]
    assert observer.findings[0].evidence["modules"] == ["1", "3"]


def test_back_in_training_mode(tmp_path: Path) -> None:
    """The accept twin: validation, and then train()."""
    assert run(tmp_path, lambda net, step: validate(net, step, back=True)).findings == ()


def test_evaluation_mode_from_the_start(tmp_path: Path) -> None:
    """A model loaded in evaluation mode, as libraries hand them out, and trained so: a warning, since it may be meant."""
    net = network()
    net(torch.randn(64, 16))
    assert said(run(tmp_path, lambda net, _: net.eval(), net=net)) == [("training-mode", "first", 1, Severity.WARNING)]


def test_batch_norm_frozen_before_it_saw_anything(tmp_path: Path) -> None:
    """Batch norm alone is in evaluation mode, with mean 0 and variance 1 as it was made: an error without any reference."""
    observer = run(tmp_path, lambda net, _: net[1].eval())
    assert said(observer) == [("training-mode", "untouched", 1, Severity.ERROR)]
    assert observer.findings[0].subject.key == "1"


def test_batch_norm_frozen_with_statistics(tmp_path: Path) -> None:
    """The accept twin: batch norm that knows its statistics is kept as it is, as detection models do."""
    net = network()
    net(torch.randn(64, 16))
    assert run(tmp_path, lambda net, _: net[1].eval(), net=net).findings == ()


def test_batch_norm_frozen_by_accident(tmp_path: Path) -> None:
    """The approved run trained everything; now a part is in evaluation mode: an error for the same program, else a warning."""
    net = network()
    net(torch.randn(64, 16))
    approved = run(tmp_path / "approved", lambda *_: None)
    reference = Reference(learned=approved.effective["learned"], learned_from="run 7 (entry 3)", same_program=True)
    observer = run(tmp_path / "now", lambda net, _: net[1].eval(), net=net, reference=reference)
    assert said(observer) == [("training-mode", "earlier", 1, Severity.ERROR)]
    assert run(tmp_path / "twin", lambda *_: None, reference=reference).findings == ()


def test_frozen_on_the_way_as_in_the_approved_run(tmp_path: Path) -> None:
    """The accept twin: batch norm is frozen from step 6 on, in the approved run too; without one it is a warning."""

    def freeze(net: Any, step: int) -> None:
        if step >= 6:
            net[1].eval()

    approved = run(tmp_path / "approved", freeze)
    assert said(approved) == [("training-mode", "left", 6, Severity.WARNING)]
    reference = Reference(learned=approved.effective["learned"], learned_from="run 7 (entry 3)", same_program=True)
    assert run(tmp_path / "now", freeze, reference=reference).findings == ()


def test_an_attack_in_evaluation_mode(tmp_path: Path) -> None:
    """The accept twin: adversarial training computes gradients of its inputs in evaluation mode before each step."""

    def perturb(net: Any, step: int) -> None:
        net.eval()
        x = torch.randn(8, 16, requires_grad=True)
        net(x).sum().backward()
        net.train()

    assert run(tmp_path, perturb).findings == ()


def test_no_module_has_two_modes(tmp_path: Path) -> None:
    """The accept twin: a policy without dropout or batch norm is trained as it acts."""
    assert run(tmp_path, lambda net, _: net.eval(), net=torch.nn.Linear(16, 4)).findings == ()
